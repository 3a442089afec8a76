"""The operators that run inside a subtask, one file per family."""
