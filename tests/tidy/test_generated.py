"""Diagrams and tables in the documentation are those of the code that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from .generated import GENERATED, MACHINES, PAGES, page, picture


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_the_generated_parts_of_the_documentation_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert page(text) == text, "run `make docs`"


def test_everything_generated_is_on_a_page() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [name for name in GENERATED if f"<!-- generated: {name} -->" not in text] == []


def test_a_diagram_has_every_transition_of_the_table() -> None:
    for machine in MACHINES:
        shown = picture(machine).splitlines()
        for (phase, event), row in machine.TABLE.items():
            for to in row.to:
                assert f"    {phase.value} --> {to.value}: {event.__name__}" in shown


def test_an_outdated_part_is_found() -> None:
    text = "before\n<!-- generated: Alignment -->\nold\n<!-- end of Alignment -->\nafter\n"
    new = page(text)
    assert new != text
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert page(new) == new
