"""What commands print: tables, JSON documents, messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tidegate.cli import printing
from tidegate.engine.errors import JobInvalidError


def test_a_table_is_aligned_and_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(["epoch", "kind"], [[9, "periodic"], [10, "final"], [None, "x"]])
    assert capsys.readouterr().out == "epoch  kind\n    9  periodic\n   10  final\n    -  x\n"


def test_a_table_without_rows_is_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(["epoch", "kind"], [])
    assert capsys.readouterr().out == "epoch  kind\n"


def test_control_characters_of_records_never_reach_the_terminal() -> None:
    assert "\x1b" not in printing.cell("\x1b[31mred")
    assert "\n" not in printing.cell("two\nlines")


def test_a_time_is_short() -> None:
    assert printing.cell(datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)) == "2026-01-02 03:04:05.678Z"


def test_a_long_cell_is_cut_with_an_ellipsis() -> None:
    assert len(printing.cell("x" * 100)) == printing.CELL_WIDTH_MAX
    assert printing.cell("x" * 100).endswith("\N{HORIZONTAL ELLIPSIS}")


def test_json_holds_times_bytes_and_decimals_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    printing.json_document([datetime(2026, 1, 2, tzinfo=UTC), b"\x00\xff", Decimal("1.10"), {"a": None}])
    assert json.loads(capsys.readouterr().out) == ["2026-01-02T00:00:00+00:00", "00ff", "1.10", {"a": None}]


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    printing.json_document({"a": float("nan"), "b": [float("inf")], "c": 1.5})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": None, "b": [None], "c": 1.5}


def test_two_columns_of_one_name_both_keep_their_values() -> None:
    assert printing.records(["n", "n", "m"], [[1, 2, 3]]) == [{"n": 1, "n_2": 2, "m": 3}]


def test_an_error_is_a_message_and_a_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    printing.error("workers is 0", "use 1 or more")
    assert capsys.readouterr() == ("", "error: workers is 0\n  hint: use 1 or more\n")


def test_a_failure_in_json_says_what_to_do() -> None:
    assert printing.failure(JobInvalidError("m", hint="h"), 3) == {
        "error": {"type": "JobInvalidError", "message": "m", "hint": "h", "retryable": False},
        "exit_code": 3,
    }
