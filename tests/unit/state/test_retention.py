"""The plan of retirement: each rule by itself."""

from __future__ import annotations

from tidegate.state.names import parse_data_name
from tidegate.state.retention import Known, Plan, candidates, plan_retirement, refusal, window

NONE: frozenset[str] = frozenset()


def _file(epoch: int, attempt: int = 1, tries: int = 0) -> str:
    return f"state/totals/{epoch}-{attempt}-{tries}-0-0.parquet"


def _known(attempts: dict[int, int]) -> dict[int, Known]:
    """Manifests that each name one file of their own epoch."""
    return {epoch: Known(attempt, frozenset({_file(epoch, attempt)})) for epoch, attempt in attempts.items()}


def _plan(attempts: dict[int, int], retain: int, listed: list[str] | None = None, saved: frozenset[str] = NONE) -> Plan:
    return plan_retirement(
        epochs=list(attempts),
        retain=retain,
        known=_known(attempts),
        savepoint_files=saved,
        listed_files=listed or [],
    )


def test_the_newest_manifests_are_kept_and_older_ones_go_oldest_first() -> None:
    plan = _plan(dict.fromkeys(range(9), 1), 3)
    assert plan.epochs == (1, 2, 3, 4, 5)
    assert plan.files == tuple(_file(epoch) for epoch in range(1, 6))


def test_nothing_goes_before_there_is_more_than_is_kept() -> None:
    assert _plan(dict.fromkeys(range(4), 1), 4) == Plan()


def test_at_least_one_checkpoint_is_kept() -> None:
    assert window([0, 1, 2], 0) == {2}
    assert window([0, 1, 2], -5) == {2}


def test_manifest_0_is_kept_for_ever() -> None:
    assert 0 not in candidates(range(100), 1)


def test_the_first_and_last_manifest_of_each_attempt_are_kept_for_ever_but_their_files_go() -> None:
    plan = _plan({0: 1, 1: 1, 2: 1, 3: 2, 4: 2, 5: 2, 6: 5, 7: 5, 8: 5}, 1)
    assert plan.epochs == (1, 4, 7)
    assert set(plan.files) == {_file(1), _file(2), _file(3, 2), _file(4, 2), _file(5, 2), _file(6, 5), _file(7, 5)}


def test_a_decision_that_an_earlier_attempt_had_under_way_keeps_its_name() -> None:
    # Attempt 2 started from manifest 0 and wants to write manifest 1; a late write of attempt 1 took that name.
    assert 1 not in _plan({0: 1, 1: 1, 2: 3, 3: 3, 4: 3}, 1).epochs


def test_the_first_manifest_stays_when_all_others_of_its_attempt_are_gone() -> None:
    assert _plan({0: 1, 3: 2, 6: 5, 9: 6, 10: 6}, 1).epochs == ()


def test_a_manifest_whose_predecessor_is_not_known_stays() -> None:
    known = _known({2: 1, 5: 1, 6: 1})
    plan = plan_retirement(epochs=[0, 1, 2, 5, 6], retain=1, known=known, savepoint_files=NONE)
    assert plan.epochs == (5,)


def test_nothing_goes_while_a_kept_manifest_is_not_known() -> None:
    known = _known({1: 1, 2: 1, 4: 1})
    assert plan_retirement(epochs=[0, 1, 2, 3, 4], retain=2, known=known, savepoint_files=NONE) == Plan()


def test_a_file_that_a_kept_manifest_names_stays_however_old_it_is() -> None:
    known = _known(dict.fromkeys(range(6), 1))
    known[5] = Known(1, frozenset({_file(1), _file(5)}))
    plan = plan_retirement(epochs=range(6), retain=1, known=known, savepoint_files=NONE, listed_files=[_file(1)])
    assert _file(1) not in plan.files
    assert _file(2) in plan.files


def test_a_kept_manifest_keeps_the_outboxes_it_still_lists() -> None:
    outbox = "outbox/out/1-1-0-0-0.arrow"
    known = _known(dict.fromkeys(range(6), 1))
    known[1] = Known(1, frozenset({outbox}))
    known[5] = Known(1, frozenset({outbox}))
    plan = plan_retirement(epochs=range(6), retain=1, known=known, savepoint_files=NONE, listed_files=[outbox])
    assert outbox not in plan.files


def test_files_of_a_savepoint_stay() -> None:
    plan = _plan(dict.fromkeys(range(6), 1), 1, [_file(1), _file(2)], frozenset({_file(2)}))
    assert 2 in plan.epochs
    assert _file(2) not in plan.files
    assert _file(1) in plan.files


def test_files_of_an_epoch_still_open_are_never_orphans_whoever_wrote_them() -> None:
    listed = [_file(3, 1), _file(3, 2), _file(4, 1, 7), _file(5, 9), _file(6, 1)]
    assert _plan({0: 1, 1: 1, 2: 1, 3: 1, 4: 1}, 9, listed).files == (_file(3, 2), _file(4, 1, 7))


def test_orphans_of_dead_attempts_and_failed_tries_go() -> None:
    listed = [_file(2, 7), _file(3, 1, 1), _file(3)]
    assert _plan({0: 1, 1: 1, 2: 1, 3: 1}, 9, listed).files == (_file(2, 7), _file(3, 1, 1))


def test_files_whose_names_say_nothing_are_left_alone() -> None:
    listed = ["state/totals/readme.txt", "state/totals/1-1.parquet", "outbox/x", "state/a/b/1-1-0-0-0.parquet"]
    assert _plan({0: 1, 5: 1}, 1, listed).files == ()


def test_a_file_that_a_retiring_manifest_names_for_an_epoch_to_come_stays() -> None:
    known = _known(dict.fromkeys(range(4), 1))
    known[1] = Known(1, frozenset({_file(9)}))
    plan = plan_retirement(epochs=range(4), retain=1, known=known, savepoint_files=NONE)
    assert _file(9) not in plan.files


def test_an_attempt_that_finds_a_newer_one_deletes_nothing() -> None:
    assert refusal(6, [1, 6, 7], 6) == "attempt 6 found attempt 7 and deleted nothing"
    assert refusal(6, [1, 6], 7) == "attempt 6 found attempt 7 and deleted nothing"
    assert refusal(6, [1, 2, 6], 5) == ""


def test_a_job_without_manifests_has_nothing_to_retire() -> None:
    assert plan_retirement(epochs=[], retain=1, known={}, savepoint_files=NONE, listed_files=[_file(0)]) == Plan()


def test_a_data_files_name_says_where_it_comes_from() -> None:
    parsed = parse_data_name("outbox/out/812-7-2-1-3.arrow")
    assert parsed is not None
    assert (parsed.epoch, parsed.attempt, parsed.tries, parsed.subtask, parsed.n) == (812, 7, 2, 1, 3)
    short = parse_data_name("outbox/out/812-7-2-1.arrow")
    assert short is not None
    assert short.n == 0
