"""The commit protocol holds in every interleaving of the model, and no rule of it can be left out.

The model drives the product's own machines, books and retirement plan. A failing search prints its shortest story.
"""

from __future__ import annotations

import pytest

from model.explore import Search
from model.rules import DEPARTURES, SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_protocol_holds_in_every_interleaving(scenario: str) -> None:
    found = Search(SCENARIOS[scenario]).run()

    assert not found.broken, str(found)
    assert found.complete, "no run came to its end, so the search shows nothing"


@pytest.mark.parametrize("departure", DEPARTURES)
def test_every_departure_from_a_rule_is_found(departure: str) -> None:
    expected, scenario = DEPARTURES[departure]

    found = Search(scenario, departure).run()

    assert found.broken == expected, str(found)
    assert not Search(scenario).run().broken, "the scenario itself breaks the invariant"
