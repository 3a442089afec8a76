"""Keyed state, snapshot files, manifests, checkpoint stores and the catalog."""
