"""Measures Tidegate against a hand-written loop on the same broker, the same input and the same machine."""
