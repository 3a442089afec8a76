"""Seeded simulation of the protocol: the product's own pure machines in a world made of chance."""
