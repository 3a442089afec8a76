"""Faults on real processes: kill rounds, failpoints, zombies and outages."""
