"""Runs seeds from the command line; a broken promise prints the smallest plan and its story, with exit code 1.

python -m tests.sim [--seed S] [--seeds N] [--rule NAME]   # the rule NAME is switched off
"""

from __future__ import annotations

import argparse
import sys
import time

from .campaign import campaign
from .plan import plan_of
from .rules import Rules
from .shrink import shrink
from .simulate import simulate


def main() -> int:
    """Run the seeds in as many processes as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--rule", help="a rule to switch off")
    options = parser.parse_args()
    rules = Rules(**{options.rule: False}) if options.rule else Rules()
    started = time.monotonic()
    total = campaign(range(options.seed, options.seed + options.seeds), rules)
    sys.stdout.write(f"{total}, {time.monotonic() - started:.1f} s\n")
    if total.first_failing is None:
        return 0
    outcome = simulate(plan_of(total.first_failing), rules)
    smallest = shrink(outcome, rules)
    story = "\n".join(smallest.story)
    sys.stdout.write(
        f"seed {total.first_failing}: {outcome.violation}\n\nshrunk to {smallest.plan}\n{story}\n{smallest.violation}\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
