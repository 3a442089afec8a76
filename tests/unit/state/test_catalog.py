"""The catalog: what it says of checkpoints, how it starts again, and that nothing it meets fails the job."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tidegate.engine.errors import JobInvalidError, TidegateError
from tidegate.engine.protocol.manifest import Committable, Kind, SplitPosition
from tidegate.state import catalog_database, catalog_publish, catalog_schema
from tidegate.state.catalog import DuckCatalog, open_catalog, rebuild
from tidegate.state.catalog_publish import reader_path
from tidegate.state.log import StoreLog, open_log
from tidegate.state.manifests import to_json

from support.manifests import file_ref, full_manifest, manifest
from support.state import checkpoint, partials

OUTPUT = Committable("out", 0, 1, (file_ref("outbox/out/1-1-0-0-0.arrow", rows=5),), {"topic": "t"})


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "storage")


@pytest.fixture
def log(storage: str) -> StoreLog:
    made = open_log(storage, "job")
    assert made.claim(1, {"workers": 2, "started_ms": 1_790_000_000_000})
    checkpoint(made, 0)
    return made


def path_of(storage: str) -> Path:
    path = reader_path(storage, "job")
    assert path is not None
    return path


def read(storage: str, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path_of(storage), read_only=True) as reader:
        return reader.execute(sql).fetchall()


def records(storage: str, sql: str) -> list[dict[str, Any]]:
    """Read by way of Arrow, which needs no other package for times with a zone."""
    with duckdb.connect(path_of(storage), read_only=True) as reader:
        reader.execute("SET TimeZone = 'UTC'")
        found: list[dict[str, Any]] = reader.sql(sql).to_arrow_table().to_pylist()
        return found


def written(storage: str, log: StoreLog) -> DuckCatalog:
    made = open_catalog(storage, "job", log)
    made.attempt(1, "running", {"workers": 2})
    return made


def test_the_readers_copy_tells_what_happened(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.decided(
        manifest(1, committables=(OUTPUT,)), {"collect": 50.0, "align": 1.0, "upload": 2.0, "decide": 3.0}, "periodic"
    )
    catalog.publish()
    shown = (
        "SELECT epoch, phase, trigger, rows, collect_ms, decide_ms, epoch_ms(started), epoch_ms(committed)"
        " FROM checkpoints WHERE epoch = 1"
    )
    at = 1_790_000_000_000
    assert read(storage, shown) == [(1, "decided", "periodic", 5, 50.0, 3.0, at - 50, None)]
    catalog.committed(1, at + 70)
    catalog.close()
    assert read(storage, shown) == [(1, "committed", "periodic", 5, 50.0, 3.0, at - 50, at + 70)]
    assert read(storage, "SELECT attempt, phase, workers, epoch_ms(started) FROM attempts") == [(1, "running", 2, at)]


def test_every_field_of_a_manifest_has_its_place(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.decided(replace(full_manifest(), job="job"), {}, "periodic")
    catalog.close()
    assert read(storage, "SELECT uid, split, position, end_position, finished FROM source_offsets ORDER BY uid") == [
        ("files", "a/b.jsonl", '{"byte":9,"lines":[1,null,"é",0.5,true]}', None, False),
        ("orders", "orders-0", "42", "100", True),
    ]
    assert read(storage, "SELECT uid, groups_from, groups_to, rows, length(sha256) FROM snapshot_files") == [
        ("totals", 0, 64, 1, 64)
    ]
    found = read(storage, "SELECT epoch, uid, subtask, segment, name FROM committables ORDER BY segment")
    assert [row[:4] for row in found] == [(812, "out", 1, 0), (812, "out", 1, 1)]
    assert read(storage, "SELECT uid, kind, about FROM operators ORDER BY kind, uid") == [
        ("totals", "keyed", None),
        ("out", "sink", '{"cluster":"c1","partitions":4}'),
        ("files", "source", '{"splits":1}'),
        ("orders", "source", '{"splits":1}'),
    ]
    assert read(storage, "SELECT watermark, counters, pending_rows FROM checkpoints WHERE epoch = 812") == [
        (None, '{"late":3}', 1)
    ]


def test_tables_and_columns_say_what_they_are(storage: str, log: StoreLog) -> None:
    written(storage, log).close()
    assert read(storage, "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL") == []
    assert (
        read(storage, "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL")
        == []
    )


def test_only_this_user_can_read_it(storage: str, log: StoreLog) -> None:
    written(storage, log).close()
    path = path_of(storage)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o600, 0o700]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_next_run_keeps_what_manifests_do_not_hold_and_adds_what_it_missed(storage: str, log: StoreLog) -> None:
    first = written(storage, log)
    first.decided(checkpoint(log, 1), {"collect": 7.0}, "periodic")
    first.failed(2, 1, "worker 1 was slow")
    first.close()
    checkpoint(log, 2)
    log.claim(2, {"workers": 3, "started_ms": 1_790_000_000_001})
    second = open_catalog(storage, "job", log)
    second.attempt(2, "recovering", {"workers": 3})
    second.close()
    assert read(storage, "SELECT epoch, phase, collect_ms FROM checkpoints ORDER BY epoch") == [
        (0, "committed", None),
        (1, "committed", 7.0),
        (2, "committed", None),
    ]
    assert read(storage, "SELECT epoch, tries, reason FROM failed_tries") == [(2, 1, "worker 1 was slow")]
    assert read(storage, "SELECT attempt, phase, workers FROM attempts ORDER BY attempt") == [
        (1, "ended", 2),
        (2, "recovering", 3),
    ]


def test_an_epoch_is_committed_once_a_later_manifest_does_not_list_its_output(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    phases = "SELECT epoch, phase FROM checkpoints WHERE epoch > 0 ORDER BY epoch"
    second = replace(OUTPUT, epoch=2)
    catalog.decided(manifest(1, committables=(OUTPUT,)), {}, "periodic")
    catalog.decided(manifest(2, committables=(OUTPUT, second)), {}, "periodic")
    catalog.publish()
    assert read(storage, phases) == [(1, "decided"), (2, "decided")]
    catalog.decided(manifest(3, committables=(second,)), {}, "periodic")
    catalog.close()
    assert read(storage, phases) == [(1, "committed"), (2, "decided"), (3, "decided")]


def test_a_retired_checkpoint_keeps_its_row_and_loses_its_details(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    splits = (SplitPosition("orders", "orders-0", 0, 1),)
    for epoch in (1, 2):
        catalog.decided(manifest(epoch, splits=splits), {}, "periodic")
    catalog.retired([1, 99])
    catalog.close()
    assert read(storage, "SELECT epoch, phase FROM checkpoints ORDER BY epoch") == [
        (0, "committed"),
        (1, "retired"),
        (2, "committed"),
    ]
    assert read(storage, "SELECT epoch FROM source_offsets") == [(2,)]


def test_rows_of_long_ago_go(storage: str, log: StoreLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_database, "HISTORY_MAX", 3)
    catalog = written(storage, log)
    for epoch in range(1, 9):
        catalog.decided(manifest(epoch), {}, "periodic")
        catalog.failed(epoch, 1, "slow")
    catalog.retired(list(range(8)))
    catalog.close()
    assert read(storage, "SELECT epoch, phase FROM checkpoints ORDER BY epoch") == [
        (6, "retired"),
        (7, "retired"),
        (8, "committed"),
    ]
    assert read(storage, "SELECT epoch FROM failed_tries ORDER BY epoch") == [(6,), (7,), (8,)]


def test_operators_that_were_removed_say_so(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.decided(manifest(1, watermarks={"old": 1, "kept": 1}), {}, "periodic")
    catalog.decided(manifest(2, watermarks={"kept": 1, "new": 1}), {}, "periodic")
    catalog.close()
    assert read(storage, "SELECT uid, first_epoch, last_epoch FROM operators ORDER BY uid") == [
        ("kept", 1, None),
        ("new", 2, None),
        ("old", 1, 1),
    ]


def test_a_stopped_job_says_so(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.decided(manifest(1, kind=Kind.STOPPED), {}, "stopped")
    catalog.close()
    assert read(storage, "SELECT phase FROM attempts") == [("stopped",)]


def test_changes_are_published_by_themselves(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    until = time.monotonic() + 10
    while not path_of(storage).exists() and time.monotonic() < until:
        time.sleep(0.02)
    catalog.committed(0, 5)
    while time.monotonic() < until and read(storage, "SELECT epoch_ms(committed) FROM checkpoints") != [(5,)]:
        time.sleep(0.02)
    assert read(storage, "SELECT epoch_ms(committed) FROM checkpoints") == [(5,)]
    catalog.close()


def test_an_unchanged_catalog_is_not_published_again(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.publish()
    before = path_of(storage).stat().st_ino
    catalog.publish()
    catalog.close()
    catalog.close()
    catalog.attempt(1, "running", {})
    assert path_of(storage).stat().st_ino == before


def test_a_catalog_that_nobody_writes_to_leaves_nothing(storage: str, log: StoreLog) -> None:
    open_catalog(storage, "job", log).close()
    assert not path_of(storage).parent.exists()


def test_a_reader_keeps_what_it_opened_while_the_copy_is_replaced(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    catalog.publish()
    with duckdb.connect(path_of(storage), read_only=True) as reader:
        catalog.decided(manifest(1), {}, "periodic")
        catalog.close()
        assert reader.execute("SELECT max(epoch) FROM checkpoints").fetchall() == [(0,)]
    assert read(storage, "SELECT max(epoch) FROM checkpoints") == [(1,)]


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "other format", "other tables", "views"])
def test_an_unreadable_copy_is_moved_aside_and_made_again(
    storage: str, log: StoreLog, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(storage)
    if damage == "other format":
        monkeypatch.setattr(catalog_database, "FORMAT", catalog_schema.FORMAT + 1)
    written(storage, log).close()
    monkeypatch.undo()
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage in {"other tables", "views"}:
        with duckdb.connect(path) as writer:
            writer.execute("DROP TABLE checkpoints")
            if damage == "views":
                writer.execute("CREATE VIEW checkpoints AS SELECT * FROM read_text('/etc/hostname')")
    with caplog.at_level(logging.WARNING):
        written(storage, log).close()
    assert read(storage, "SELECT epoch FROM checkpoints") == [(0,)]
    if damage != "empty":  # to DuckDB an empty file is a new database, and one without tables is told apart as well
        assert "is made again" in caplog.text
    assert (path.parent / f"unreadable-{path.name}").exists()


def test_a_copy_that_somebody_opened_for_writing_is_read_and_replaced(
    storage: str, log: StoreLog, tmp_path: Path
) -> None:

    first = written(storage, log)
    first.failed(1, 1, "only in the catalog")
    first.close()
    script = (
        "import duckdb, sys\n"
        f"con = duckdb.connect({str(path_of(storage))!r})\n"
        "con.execute('CREATE TABLE mine (x INTEGER)')\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        second = written(storage, log)
        second.decided(manifest(1), {}, "periodic")
        second.close()
        other.kill()
    assert read(storage, "SELECT max(epoch), (SELECT reason FROM failed_tries) FROM checkpoints") == [
        (1, "only in the catalog")
    ]


def test_a_catalog_of_an_earlier_job_of_this_name_is_made_again(storage: str, log: StoreLog) -> None:
    written(storage, log).close()
    name = "checkpoints/000000000000.json"
    log.store.replace(name, to_json(manifest(0, job_uid="another")))
    second = written(storage, log)
    second.close()
    assert read(storage, "SELECT job_uid FROM jobs") == [("another",)]
    assert read(storage, "SELECT count(*) FROM checkpoints") == [(1,)]


def test_a_damaged_manifest_is_left_out(storage: str, log: StoreLog, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(log, 1)
    log.store.replace("checkpoints/000000000001.json", b"{}")
    checkpoint(log, 2)
    with caplog.at_level(logging.WARNING):
        written(storage, log).close()
    assert read(storage, "SELECT epoch FROM checkpoints ORDER BY epoch") == [(0,), (2,)]
    assert "leaves checkpoint 1 out" in caplog.text


@pytest.mark.parametrize("obstacle", ["file", "symlink"])
def test_a_copy_that_cannot_be_written_is_one_warning(
    storage: str, log: StoreLog, obstacle: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = path_of(storage).parent
    if obstacle == "file":
        folder.write_text("in the way")
    else:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        catalog = written(storage, log)
        for epoch in range(1, 4):
            catalog.decided(manifest(epoch), {}, "periodic")
            catalog.publish()
        catalog.close()
    assert len([record for record in caplog.records if "cannot publish the catalog" in record.message]) == 1
    assert obstacle == "file" or list((tmp_path / "elsewhere").iterdir()) == []


def test_a_rebuilt_catalog_says_what_the_manifests_say(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    for epoch in (1, 2, 3):
        output = replace(OUTPUT, epoch=epoch)
        made = checkpoint(log, epoch, partials(a=epoch, b=1), committables=(output,))
        catalog.decided(made, {}, "periodic")
    catalog.close()
    queries = [
        "SELECT * FROM jobs",
        "SELECT * FROM operators ORDER BY ALL",
        "SELECT * FROM source_offsets ORDER BY ALL",
        "SELECT * FROM snapshot_files ORDER BY ALL",
        "SELECT * FROM committables ORDER BY ALL",
        "SELECT * FROM checkpoints ORDER BY epoch",
    ]
    before = [records(storage, sql) for sql in queries]
    path_of(storage).unlink()
    assert rebuild(storage, "job") == 4
    assert [records(storage, sql) for sql in queries] == before


def test_rebuilding_needs_a_job(storage: str) -> None:
    with pytest.raises(JobInvalidError, match="job 'job' has no checkpoints"):
        rebuild(storage, "job")
    assert not Path(storage).exists()


def test_a_rebuild_that_cannot_write_says_where(storage: str, log: StoreLog) -> None:
    path_of(storage).parent.write_text("in the way")
    with pytest.raises(TidegateError, match=str(path_of(storage))):
        rebuild(storage, "job")


def test_copies_of_other_storages_are_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = reader_path("s3://bucket/jobs/", "job")
    assert path is not None
    assert path.is_relative_to(tmp_path)
    assert path == reader_path("s3://bucket/jobs", "job")
    assert path != reader_path("s3://other/jobs", "job")
    assert reader_path("memory://x", "job") is None


def test_leftovers_of_killed_processes_are_swept(storage: str, log: StoreLog, monkeypatch: pytest.MonkeyPatch) -> None:
    written(storage, log).close()
    leftover = path_of(storage).with_name(".123-abc.new")
    leftover.write_bytes(b"")
    written(storage, log).close()
    assert leftover.exists(), "it may belong to a process at work"
    monkeypatch.setattr(catalog_publish, "LEFTOVER_AGE_S", -1.0)
    written(storage, log).close()
    assert not leftover.exists()


def test_text_of_any_kind_is_only_text(storage: str, log: StoreLog) -> None:
    catalog = written(storage, log)
    nasty = "'); DROP TABLE jobs; --\0é"
    catalog.failed(1, 1, nasty)
    catalog.decided(manifest(1, splits=(SplitPosition("s", nasty, 0, nasty),)), {}, nasty)
    catalog.close()
    assert read(storage, "SELECT reason FROM failed_tries") == [(nasty,)]
    assert read(storage, "SELECT split FROM source_offsets") == [(nasty,)]


def test_worker_processes_load_neither_the_database_nor_s3() -> None:

    script = (
        "import sys, tidegate\nfrom tidegate.engine.runtime import installed\n"
        "log = installed().open_log('memory://x', 'job')\n"
        "print(sorted({'duckdb', 's3fs', 'botocore'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
