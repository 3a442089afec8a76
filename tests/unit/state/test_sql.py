"""SQL over catalog and state: what it shows, how new it is, and what it refuses."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from tidegate.engine.errors import CorruptError, JobInvalidError, StoreMissingError, TidegateError
from tidegate.engine.ports.keyed import KEY_GROUP
from tidegate.engine.protocol.manifest import StateFile
from tidegate.state import sql as sql_module
from tidegate.state.catalog import open_catalog
from tidegate.state.catalog_publish import reader_path
from tidegate.state.log import StoreLog, open_log
from tidegate.state.runs import write_run
from tidegate.state.sql import QueryError, Result, query
from tidegate.state.sql_state import present, references

from support.manifests import file_ref, manifest
from support.state import END_MS, VIEW, checkpoint, partials

START, END = (datetime.fromtimestamp((END_MS - ago) / 1000, UTC) for ago in (10_000, 0))


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "storage")


@pytest.fixture
def log(storage: str) -> StoreLog:
    made = open_log(storage, "job")
    assert made.claim(1, {"workers": 2})
    checkpoint(made, 0)
    checkpoint(made, 1, partials(a=1))
    checkpoint(made, 2, partials(a=2, b=0), partials(c=7))
    return made


def run(storage: str, sql: str, **options: object) -> Result:
    return query(storage, "job", sql, **options)  # type: ignore[arg-type]  # options of several types


def test_state_is_shown_as_users_know_it(storage: str, log: StoreLog) -> None:
    assert run(storage, "select * from state('totals') order by n") == Result(
        ["user", "window_start", "window_end", "n", "average"],
        [("b", START, END, 0, None), ("a", START, END, 2, 2.0), ("c", START, END, 7, 2.0)],
        truncated=False,
    )


@pytest.mark.parametrize("epoch", ["epoch => 1", "epoch := 1", "1", "  EPOCH=>1 "])
def test_state_of_an_older_checkpoint(storage: str, log: StoreLog, epoch: str) -> None:
    sql = "select user, n from State ( 'totals', {} )".format(epoch)  # noqa: UP032, S608 - the epochs of this test
    assert run(storage, sql).rows == [("a", 1)]


def test_two_checkpoints_are_compared(storage: str, log: StoreLog) -> None:
    sql = "select user, b.n - a.n from state('totals', epoch => 1) a join state('totals') b using (user)"
    assert run(storage, sql).rows == [("a", 1)]


def test_the_answer_is_as_new_as_the_manifests(storage: str, log: StoreLog) -> None:
    catalog = open_catalog(storage, "job", log)
    catalog.attempt(1, "running", {"workers": 2})
    catalog.failed(3, 1, "slow")
    catalog.close()
    checkpoint(log, 3)
    sql = "select max(epoch), (select reason from failed_tries) from checkpoints"
    assert run(storage, sql).rows == [(3, "slow")]


def test_a_query_writes_nothing(storage: str, log: StoreLog) -> None:
    run(storage, "select 1")
    assert sorted(p.name for p in (Path(storage) / "job").iterdir() if "~" not in p.name) == [
        "attempts",
        "checkpoints",
        "state",
    ]


def test_an_unreadable_catalog_is_passed_over_and_stays(
    storage: str, log: StoreLog, caplog: pytest.LogCaptureFixture
) -> None:
    path = reader_path(storage, "job")
    assert path is not None
    path.parent.mkdir()
    path.write_bytes(b"of a newer version")
    with caplog.at_level(logging.WARNING):
        assert run(storage, "select count(*) from checkpoints").rows == [(3,)]
    assert "is passed over" in caplog.text
    assert path.read_bytes() == b"of a newer version"


def test_rows_beyond_the_limit_are_not_given(storage: str, log: StoreLog) -> None:
    assert run(storage, "select * from range(3)", limit=2) == Result(["range"], [(0,), (1,)], truncated=True)
    assert run(storage, "select * from range(3)", limit=3) == Result(["range"], [(0,), (1,), (2,)], truncated=False)
    started = time.monotonic()
    assert len(run(storage, "select * from range(1000000000000)", limit=5000, timeout_s="20s").rows) == 5000
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("null", None),
        ("interval 90 minute", timedelta(minutes=90)),
        ("interval 2 month", "MonthDayNano(months=2, days=0, nanoseconds=0)"),
        ("timestamptz '2026-01-02 03:04:05+00'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("[1, null]", [1, None]),
        ("{'a': 'é'}", {"a": "é"}),
        ("'\\xff'::blob", b"\xff"),
        ("sum(x) from range(3) t(x)", 3),
        ("sum(x) from range(0) t(x)", None),
        ("1.50::decimal(9, 2)", Decimal("1.50")),
    ],
)
def test_values_are_python_values(storage: str, log: StoreLog, expression: str, value: object) -> None:
    assert run(storage, f"select {expression}").rows == [(value,)]


def test_times_that_python_cannot_hold_do_not_break_the_rest(storage: str, log: StoreLog) -> None:
    ((date, one),) = run(storage, "select 'infinity'::date, 1").rows
    assert isinstance(date, str)
    assert one == 1


@pytest.mark.parametrize(
    "sql", ["describe checkpoints", "show tables", "from jobs", "with x as (select 1) from x", "values (1);"]
)
def test_whatever_only_looks_is_run(storage: str, log: StoreLog, sql: str) -> None:
    assert run(storage, sql).rows


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('/etc/passwd')",
        "select * from read_json_auto('/etc/passwd')",
        "select * from read_parquet('s3://bucket/x')",
        "select * from sniff_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "select * from query('select * from read_text(''/etc/passwd'')')",
        "select * from query_table('/etc/passwd')",
        "copy jobs to '{tmp}/out.csv'",
        "copy (select 1) to '{tmp}/out.csv'",
        "copy jobs from '/etc/passwd'",
        "export database '{tmp}/out'",
        "attach '{tmp}/other.duckdb'",
        "install httpfs",
        "load httpfs",
        "pragma database_list",
        "set enable_external_access = true",
        "reset lock_configuration",
        "call enable_logging('QueryLog')",
        "create table t (x integer)",
        "create macro f() as 1",
        "insert into jobs (job) values ('x')",
        "with x as (insert into jobs select * from jobs returning *) from x",
        "with x as (delete from jobs returning *) from x",
        "with x as (copy (select 1) to '{tmp}/out.csv') from x",
        "from enable_logging('QueryLog', storage := 'file', storage_config := {'path': '{tmp}'})",
        "import database '{tmp}'",
        "update jobs set job = 'x'",
        "delete from jobs",
        "drop table jobs",
        "create secret s (type s3)",
        "select 1; drop table jobs",
        "select 1; select 2",
        "explain analyze select 1",
        "prepare p as select 1",
        "checkpoint",
        "use memory",
        "begin",
        "",
        "-- nothing",
        "selec 1",
        "select * from nothing_like_it",
        "select nothing_like_it from jobs",
        "select * from frame",
        "select * from query('drop table jobs')",
        "select 'unfinished",
    ],
)
def test_everything_else_is_refused_with_one_clear_line(storage: str, log: StoreLog, sql: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"secret": [1]})  # a variable of Python must not be a table
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError) as caught:
        run(storage, sql.replace("{tmp}", str(tmp_path)))
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert "Traceback" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert frame.height == 1


def test_settings_are_locked(storage: str, log: StoreLog) -> None:
    names = (
        "enable_external_access",
        "lock_configuration",
        "autoload_known_extensions",
        "autoinstall_known_extensions",
    )
    sql = ", ".join(f"current_setting('{name}')" for name in (*names, "python_enable_replacements", "temp_directory"))
    assert run(storage, f"select {sql}").rows == [(False, True, False, False, False, "")]


def test_time_is_bounded(storage: str, log: StoreLog) -> None:
    started = time.monotonic()
    with pytest.raises(TidegateError, match=r"took longer than 0\.3 s"):
        run(storage, "select count(*) from range(1000000000000)", timeout_s="300ms")
    assert time.monotonic() - started < 5


def test_memory_is_bounded(storage: str, log: StoreLog, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = ("SET memory_limit = '20MB'", *sql_module._LOCKED[1:])
    monkeypatch.setattr(sql_module, "_LOCKED", locked)
    with pytest.raises(TidegateError, match="memory"):
        run(storage, "select * from range(100000000) order by hash(range)")


def test_an_unknown_uid_lists_the_known_ones(storage: str, log: StoreLog) -> None:
    with pytest.raises(JobInvalidError, match="keeps no state under uid 'nope'") as caught:
        run(storage, "select * from state('nope')")
    assert caught.value.hint == "operators with state: totals"


@pytest.mark.parametrize("call", ["'to' || 'tals'", '"totals"', "uid := 'totals'", "'totals', epoch => -1"])
def test_state_of_what_is_not_a_constant_says_so(storage: str, log: StoreLog, call: str) -> None:
    with pytest.raises(QueryError, match="constants only"):
        run(storage, f"select * from state({call})")  # noqa: S608 - the calls of this test


def test_integers_of_128_bits_are_json_numbers(storage: str, log: StoreLog) -> None:
    ((total,),) = run(storage, "select sum(n) from state('totals')").rows
    assert type(total) is int
    assert total == 9


def test_a_checkpoint_that_is_not_kept_lists_those_that_are(storage: str, log: StoreLog) -> None:
    with pytest.raises(JobInvalidError, match="checkpoint 7 of job 'job' is not kept") as caught:
        run(storage, "select * from state('totals', epoch => 7)")
    assert "0, 1, 2" in caught.value.hint


def test_a_table_that_is_not_there_lists_those_that_are(storage: str, log: StoreLog) -> None:
    with pytest.raises(QueryError) as caught:
        run(storage, "select * from checkpoint")
    assert "checkpoints" in caught.value.hint
    assert "state('totals')" in caught.value.hint


def test_a_job_that_never_ran_has_nothing_to_ask(storage: str) -> None:
    with pytest.raises(JobInvalidError, match="job 'job' has no checkpoints"):
        run(storage, "select 1")
    assert not Path(storage).exists()


def test_state_without_rows_has_the_columns_of_another_checkpoint(storage: str, log: StoreLog) -> None:
    checkpoint(log, 3)
    assert run(storage, "select * from state('totals')") == Result(
        ["user", "window_start", "window_end", "n", "average"], [], truncated=False
    )


def test_state_whose_columns_no_checkpoint_knows_is_an_explained_error(tmp_path: Path) -> None:
    made = open_log(str(tmp_path), "job")
    checkpoint(made, 0)
    checkpoint(made, 1)
    with pytest.raises(JobInvalidError, match="operator 'totals' holds no rows at checkpoint 1"):
        run(str(tmp_path), "select * from state('totals')")


def test_a_flipped_bit_is_refused_with_path_and_hash(storage: str, log: StoreLog) -> None:
    name = log.read(2).states[0].file.name
    data = bytearray(log.store.read(name))
    data[100] ^= 1
    log.store.replace(name, bytes(data))
    with pytest.raises(CorruptError, match=r"2-1-0-0-0\.parquet has .* SHA-256 .* expected"):
        run(storage, "select * from state('totals')")
    assert run(storage, "select n from state('totals', epoch => 1)").rows == [(1,)], "only what is asked for is read"


def test_a_missing_file_is_an_error(storage: str, log: StoreLog) -> None:
    log.store.delete([log.read(2).states[0].file.name])
    with pytest.raises(StoreMissingError, match="is missing"):
        run(storage, "select * from state('totals')")


def test_states_inside_comments_and_strings_are_not_loaded() -> None:
    sql = """
        -- state('line')
        /* state('block') */
        select 'state(''text'')', "state('name')", my_state('other')
        from state('it''s', epoch => 812) join state('b') using (x) join STATE('b')
    """
    assert references(sql) == [("it's", 812), ("b", None)]


def test_a_run_that_says_nothing_shows_all_its_columns() -> None:
    frame = partials(a=1)
    assert present(frame, {}).columns == frame.columns[1:]


@pytest.mark.parametrize(
    "columns", [{"n": ["col", "gone"]}, {"n": ["div", "__rows"]}, {"n": "__rows"}, {"n": ["run", "__rows", "x"]}]
)
def test_a_description_that_does_not_fit_is_damage(columns: dict[str, object]) -> None:
    with pytest.raises(CorruptError, match="does not fit its own description"):
        present(partials(a=1), {**VIEW, "columns": columns})


def test_state_of_every_type_can_be_selected(tmp_path: Path) -> None:
    made = open_log(str(tmp_path), "job")
    checkpoint(made, 0)
    frame = pl.DataFrame(
        {
            KEY_GROUP: pl.Series([0], dtype=pl.UInt16),
            "wide": pl.Series([2**100], dtype=pl.Int128),
            "list": [[1, 2]],
            "struct": [{"a": 1}],
            "category": pl.Series(["x"], dtype=pl.Categorical),
            "binary": [b"\xff"],
            "null": [None],
            "time": pl.Series([END_MS]).cast(pl.Datetime("ms", "UTC")),
            "duration": [timedelta(seconds=1)],
        }
    )
    data = write_run(frame, {})
    name = "state/any/1-1-0-0-0.parquet"
    made.store.create(name, data)
    assert made.decide(manifest(1, states=(StateFile("any", file_ref(name, data), 0, 128),)))
    assert [tuple(map(str, row)) for row in run(str(tmp_path), "select * from state('any')").rows] == [
        (str(2**100), "[1, 2]", "{'a': 1}", "x", "b'\\xff'", "None", str(END), "0:00:01")
    ]


def test_the_copy_is_for_any_client(storage: str, log: StoreLog) -> None:
    catalog = open_catalog(storage, "job", log)
    catalog.attempt(1, "running", {})
    catalog.close()
    path = reader_path(storage, "job")
    assert path is not None
    with duckdb.connect(path, read_only=True) as client:
        assert client.execute("select count(*) from checkpoints").fetchall() == [(3,)]
