"""Log lines: text or JSON, with job, attempt and worker."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
from tidegate.cli.monitor import LogLines
from tidegate.engine import logs
from tidegate.engine.status import Status


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    own, root = logging.getLogger(logs.ROOT), logging.getLogger()
    before = (own.handlers[:], own.propagate, own.level, root.handlers[:], root.level)
    yield
    own.handlers[:], own.propagate, own.level, root.handlers[:], root.level = before
    logs.ABOUT.job, logs.ABOUT.attempt, logs.ABOUT.worker = "", 0, None


def test_a_text_line_has_time_level_job_attempt_and_worker(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_worker(as_json=False, job="revenue", attempt=3, worker=1)
    logging.getLogger("tidegate.engine.x").info("restored %d rows", 5)
    line = capsys.readouterr().err
    assert line.endswith("INFO    revenue attempt 3 worker 1: restored 5 rows\n")
    assert line[4] == line[7] == "-"


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_worker(as_json=True, job="revenue", attempt=3, worker=1)
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("tidegate.engine.x").exception("broken")
    (text,) = capsys.readouterr().err.splitlines()
    line = json.loads(text)
    assert (line["level"], line["job"], line["attempt"], line["worker"]) == ("error", "revenue", 3, 1)
    assert line["message"] == "broken"
    assert "ValueError" in line["traceback"]


def test_details_are_logged_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure(as_json=False)
    logging.getLogger("tidegate.x").debug("hidden")
    monkeypatch.setenv(logs.DEBUG_VARIABLE, "1")
    logs.configure(as_json=False)
    logging.getLogger("tidegate.x").debug("shown")
    text = capsys.readouterr().err
    assert "shown" in text
    assert "hidden" not in text


def test_a_program_with_its_own_logging_keeps_it() -> None:
    root = logging.getLogger()
    mine = logging.StreamHandler(sys.stderr)
    root.handlers[:] = [mine]
    logging.getLogger(logs.ROOT).handlers[:] = []
    logs.configure_if_unset(as_json=False, job="revenue")
    assert root.handlers == [mine]
    assert logging.getLogger(logs.ROOT).handlers == []


def test_figures_are_logged_at_every_change_of_phase_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(as_json=True)
    report = LogLines(interval_s=3600)
    for phase, epoch in (("recovering", 0), ("running", 0), ("running", 1), ("running", 2), ("stopping", 2)):
        report(Status("revenue", phase=phase, epoch=epoch, rows_in=epoch * 10))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["figures"]["phase"] for line in lines] == ["recovering", "running", "stopping"]
    assert lines[-1]["figures"]["rows_in"] == 20
    LogLines(interval_s=0)(Status("revenue", phase="running"))
    assert "running" in capsys.readouterr().err
