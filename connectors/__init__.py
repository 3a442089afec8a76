"""Sources, sinks and record formats."""
