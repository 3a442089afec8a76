"""Tidegate: exactly-once stream processing in Python."""
