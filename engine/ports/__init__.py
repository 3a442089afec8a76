"""The ports through which the engine talks to sources, sinks, keyed state and the checkpoint store."""
