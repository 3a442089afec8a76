"""The elements that travel between operators besides rows: barriers and watermarks."""

from __future__ import annotations

from typing import NamedTuple


class Barrier(NamedTuple):
    """Closes an epoch. `tries` counts the attempts to checkpoint this epoch within one job attempt, from 1.

    Ordered by (attempt, epoch, tries): a later barrier makes every earlier one void.
    """

    attempt: int
    epoch: int
    tries: int
