"""Attempts as tuples and back, and small numbers for them and for the world: so states can be compared and kept."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tidegate.engine.assembly import Books

from model.attempt import About, Attempt, Cycle
from model.values import SINK, Frozen, freeze_machine, freeze_output, thaw_machine, thaw_output


class Numbers:
    """Values and the small numbers that stand for them."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def of(self, value: Hashable) -> int:
        """Return the number of a value."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def freeze(attempt: Attempt) -> Frozen:
    """Return an attempt as a tuple."""
    return (
        attempt.todo,
        attempt.number,
        freeze_machine(attempt.recovery),
        freeze_machine(attempt.checkpoints),
        attempt.newest,
        attempt.writing,
        _freeze_books(attempt.books),
        tuple(
            (subtask, freeze_machine(c.machine), c.todo, c.epoch if c.todo in {"begin", "write", "end"} else 0, c.files,
             c.entry, c.read)
            for subtask, c in sorted(attempt.cycles.items())
        ),
        attempt.retiring,
    )  # fmt: skip


def thaw(frozen: Frozen, about: About) -> Attempt:
    """Return the attempt again."""
    todo, number, recovery, checkpoints, newest, writing, books, cycles, retiring = frozen
    return Attempt(
        about,
        todo,
        number,
        thaw_machine(recovery),
        thaw_machine(checkpoints),
        newest,
        writing,
        _thaw_books(books, about.parallelism),
        {
            i: Cycle(thaw_machine(m), todo, epoch, files, entry, read)
            for i, m, todo, epoch, files, entry, read in cycles
        },
        retiring,
    )


def _freeze_books(books: Books | None) -> Frozen:
    if books is None:
        return ()
    return (
        tuple((key[1], epoch) for key, epoch in sorted(books.committed.items())),
        tuple(freeze_output(committable) for committable in books.outstanding),
        tuple((key[1], epoch) for key, epoch in sorted(books._free_since.items())),
    )


def _thaw_books(frozen: Frozen, parallelism: int) -> Books | None:
    if not frozen:
        return None
    committed, pending, free_since = frozen
    books = Books(
        {(SINK, subtask): epoch for subtask, epoch in committed},
        frozenset((SINK, subtask) for subtask in range(parallelism)),
        _free_since={(SINK, subtask): epoch for subtask, epoch in free_since},
    )
    books.add(thaw_output(output) for output in pending)
    return books
