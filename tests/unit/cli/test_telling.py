"""The demo is told in plain text, and with colours on a terminal."""

from __future__ import annotations

import sys

import pytest
from tidegate.cli.telling import style_of, teller


@pytest.mark.parametrize(
    ("line", "style"),
    [
        ("3. Output is visible. Now: kill -9 17 (worker 1)", "bold red"),
        ("1. 2,000,000 orders", "bold"),
        ("   | 17:43:02 WARNING attempt 1 failed", "yellow"),
        ("   | 17:43:02 INFO    running", "dim"),
        ('   $ tidegate sql demo "select 1"', "cyan"),
        ("   missing: 0   doubled or wrong: 0", "bold green"),
        ("   missing: 3   doubled or wrong: 0", "bold red"),
        ("   epoch  phase", None),
    ],
)
def test_lines_are_styled_by_what_they_are(line: str, style: str | None) -> None:
    assert style_of(line) == style


def test_elsewhere_than_on_a_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    teller()("1. [bold]orders[/bold]")
    assert capsys.readouterr().out == "1. [bold]orders[/bold]\n"


def test_on_a_terminal_text_is_never_taken_for_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    teller()("   epoch [bold] phase")
    assert "epoch [bold] phase" in capsys.readouterr().out
