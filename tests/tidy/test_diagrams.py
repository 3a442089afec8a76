"""The diagrams in the documentation are those of the machines that run."""

from __future__ import annotations

from .diagrams import MACHINES, PAGE, page, picture


def test_the_diagrams_in_the_documentation_are_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run `make docs`"


def test_every_machine_has_its_diagram() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in MACHINES if f"<!-- generated: {name} -->" not in text] == []


def test_a_diagram_has_every_transition_of_the_table() -> None:
    for machine in MACHINES.values():
        shown = picture(machine).splitlines()
        for (phase, event), row in machine.TABLE.items():
            for to in row.to:
                assert f"    {phase.value} --> {to.value}: {event.__name__}" in shown


def test_an_outdated_diagram_is_found() -> None:
    text = "before\n<!-- generated: Alignment -->\nold\n<!-- end of Alignment -->\nafter\n"
    new = page(text)
    assert new != text
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert page(new) == new
