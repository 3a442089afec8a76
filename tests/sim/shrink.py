"""Makes a failing plan smaller: fewer faults, fewer records, nothing lost, as long as some promise is still broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .plan import Plan
from .rules import Rules
from .simulate import Outcome, simulate


def shrink(outcome: Outcome, rules: Rules) -> Outcome:
    """Return the outcome of the smallest failing plan found; each one tried is run from its start."""
    best = outcome
    found = True
    while found:
        found = False
        for plan in _smaller(best.plan):
            tried = simulate(plan, rules)
            if tried.violation:
                best, found = tried, True
                break
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    if plan.lost:
        yield replace(plan, lost=0.0)
    size = len(plan.faults)
    while size := size // 2:
        for start in range(0, len(plan.faults), size):
            yield replace(plan, faults=plan.faults[:start] + plan.faults[start + size :])
    if len(plan.faults) == 1:
        yield replace(plan, faults=())
    for records in {plan.records // 2, plan.records - 1}:
        if 0 < records < plan.records:
            yield replace(plan, records=records)
