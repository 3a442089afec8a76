"""Figures of a run: what came since the run began, whatever the job did before."""

from __future__ import annotations

from tidegate.engine.status import Status


def test_a_run_counts_from_where_it_began() -> None:
    status = Status("revenue", before={"rows_in": 100, "late": 2})
    status.count({"rows_in": 150, "rows_out": 7, "late": 2})
    assert (status.rows_in, status.rows_out, status.late, status.skipped) == (50, 7, 0, 0)


def test_rows_of_an_epoch_that_was_never_decided_are_counted_once() -> None:
    status = Status("revenue", before={})
    status.count({"rows_in": 150})
    status.count({"rows_in": 100})
    assert status.rows_in == 100
