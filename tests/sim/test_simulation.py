"""The protocol keeps its promises under every seed, and a rule that is switched off is noticed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Final

import pytest

from .campaign import campaign, run_chunk
from .plan import KINDS, plan_of
from .rules import Rules
from .shrink import shrink
from .simulate import simulate

SEEDS: Final = 10_000
NOTICED_WITHIN: Final = 1_500
"""Seeds within which every rule that is switched off has to be noticed."""
RULES: Final = [rule.name for rule in dataclasses.fields(Rules)]


@pytest.mark.timeout(900)
def test_no_seed_breaks_a_promise() -> None:
    total = campaign(range(SEEDS), Rules())
    assert total.first_failing is None, f"python -m tests.sim --seed {total.first_failing} --seeds 1"
    assert total.seeds == SEEDS
    assert set(total.faults) == set(KINDS)
    assert total.attempts > 2 * SEEDS
    assert total.epochs > 2 * SEEDS


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_switched_off_is_noticed(rule: str) -> None:
    total = run_chunk(range(NOTICED_WITHIN), Rules(**{rule: False}))
    assert total.first_failing is not None, f"no seed below {NOTICED_WITHIN} notices that '{rule}' is off"


def test_a_seed_is_the_same_each_time() -> None:
    rules = Rules(read_ledger=False)
    seed = run_chunk(range(NOTICED_WITHIN), rules).first_failing
    assert seed is not None
    first, second = (simulate(plan_of(seed), rules) for _ in range(2))
    assert first == second
    assert first.story


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_is_the_same_in_another_process(hash_seed: str) -> None:
    outcomes = [simulate(plan_of(seed)) for seed in range(40)]
    here = [[outcome.steps, outcome.attempts, outcome.epochs] for outcome in outcomes]
    code = (
        "import json; from tests.sim.plan import plan_of; from tests.sim.simulate import simulate;"
        "outcomes = [simulate(plan_of(seed)) for seed in range(40)];"
        "print(json.dumps([[o.steps, o.attempts, o.epochs] for o in outcomes]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(run.stdout) == here


def test_a_failing_seed_is_shrunk_to_few_faults() -> None:
    rules = Rules(commit_in_order=False)
    seed = run_chunk(range(NOTICED_WITHIN), rules).first_failing
    assert seed is not None
    outcome = simulate(plan_of(seed), rules)
    smallest = shrink(outcome, rules)
    assert smallest.violation
    assert len(smallest.plan.faults) < max(len(outcome.plan.faults), 1)
    assert smallest.plan.records <= outcome.plan.records
