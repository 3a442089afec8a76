"""The pure protocol: events in, instructions out; no I/O, no clock, no threads, no randomness."""
