"""What is searched: scenarios that must hold, and departures from the rules that must be found.

A departure is the protocol with one rule not kept. Where it departs is marked in the model by its name.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from model.explore import Scenario
from model.steps import ANSWER, COMMIT, TIMEOUT, TRY
from model.world import DECIDED_TWICE, LOST, ORDER, SKIPPED, TORN, TWICE, UNDECIDED, UNFINISHED

FAULTS: Final = (ANSWER, COMMIT, TIMEOUT)

SCENARIOS: Final = {
    "one subtask, three epochs, two attempts": Scenario((1, 1), 3, FAULTS),
    "one subtask, one epoch, three attempts": Scenario((1, 1, 1), 1, FAULTS),
    "one subtask, two epochs, three attempts": Scenario((1, 1, 1), 2, (COMMIT,)),
    "two subtasks, two epochs, two attempts": Scenario((2, 2), 2, (COMMIT,)),
    "two subtasks become one": Scenario((2, 1), 2, (COMMIT, TIMEOUT)),
    "an id of an older layout retires": Scenario((2, 1), 3),
    "one subtask becomes two": Scenario((1, 2), 2, (COMMIT,)),
    "checkpoints retire, answers are lost": Scenario((1, 1), 3, (ANSWER,), retires=True),
    "checkpoints retire, tries fail": Scenario((1, 1), 2, (ANSWER, TRY), retires=True),
    "checkpoints retire, four epochs without output, three attempts": Scenario((1, 1, 1), 4, retires=True, rows=False),
}


class Departure(NamedTuple):
    """The invariant that a departure breaks, and the scenario in which that is seen."""

    breaks: str
    scenario: Scenario


ONE: Final = Scenario((1, 1), 1)
TWO: Final = Scenario((1, 1), 2)
TWO_WITH_FAULTS: Final = Scenario((1, 1), 2, FAULTS)

DEPARTURES: Final = {
    "nothing is fenced": Departure(TWICE, ONE),
    "only the ids of the new layout are fenced": Departure(TWICE, Scenario((2, 1), 1)),
    "the ledger is read before the fence": Departure(TWICE, ONE),
    "the ledger is read without waiting for the stable offset": Departure(TWICE, Scenario((2, 2), 1)),
    "a new fence is made without a second read": Departure(TWICE, TWO_WITH_FAULTS),
    "a producer is used again after an unknown commit": Departure(TORN, TWO_WITH_FAULTS),
    "an unknown commit is taken for committed": Departure(UNFINISHED, Scenario((1, 1), 1, FAULTS)),
    "an unknown commit is taken for failed": Departure(TORN, TWO_WITH_FAULTS),
    "epochs are committed out of order": Departure(ORDER, TWO),
    "pending committables are forgotten": Departure(ORDER, TWO),
    "an epoch is committed before its manifest is written": Departure(UNDECIDED, ONE),
    "losing a manifest's name is taken for success": Departure(UNDECIDED, TWO),
    "a manifest of unknown outcome is taken for written": Departure(SKIPPED, TWO_WITH_FAULTS),
    "an epoch is decided without a look at the attempts": Departure(
        DECIDED_TWICE, Scenario((1, 1, 1), 4, retires=True, rows=False)
    ),
    "the first manifest of an attempt retires": Departure(DECIDED_TWICE, Scenario((1, 1), 3, retires=True)),
    "the last manifest of an attempt retires": Departure(
        DECIDED_TWICE, Scenario((1, 1, 1), 3, retires=True, rows=False)
    ),
    "orphans of an open epoch are collected": Departure(LOST, Scenario((1, 1), 2, retires=True)),
    "an outbox is deleted because the catalog says committed": Departure(LOST, Scenario((1, 1), 2, retires=True)),
}
