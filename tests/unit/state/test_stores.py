"""Storage URLs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tidegate.engine.errors import JobInvalidError
from tidegate.state.stores import is_local, local_path, open_store


@pytest.mark.parametrize(
    ("storage", "folder"),
    [
        ("/data/jobs", "/data/jobs"),
        ("file:///data/jobs", "/data/jobs"),
        ("file:///data/my%20jobs/", "/data/my jobs"),
        ("file://localhost/data", "/data"),
        ("/data/../jobs/./x/", "/jobs/x"),
    ],
)
def test_local_forms_name_absolute_folders(storage: str, folder: str) -> None:
    assert local_path(storage) == Path(folder)
    assert open_store(storage, "job").url == f"{folder}/job"


def test_a_relative_path_is_fixed_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("./.tidegate", "job")
    monkeypatch.chdir("/")
    store.create("a", b"x")
    assert (tmp_path / ".tidegate/job/a").read_bytes() == b"x"


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/jobs") == tmp_path / "jobs"


def test_only_folders_are_local() -> None:
    assert is_local("x")
    assert is_local("file:///x")
    assert not is_local("s3://bucket")
    assert not is_local("memory://x")


@pytest.mark.parametrize("storage", ["gs://bucket/x", "http://host/x", "S4://x"])
def test_an_unknown_scheme_is_refused_with_the_known_forms(storage: str) -> None:
    with pytest.raises(JobInvalidError, match="s3://bucket/prefix"):
        open_store(storage, "job")


@pytest.mark.parametrize("storage", ["", "file://host/path", "file:///x?y=1", "a\0b", "file://"])
def test_a_local_form_that_names_no_folder_is_refused(storage: str) -> None:
    with pytest.raises(JobInvalidError):
        open_store(storage, "job")


@pytest.mark.parametrize(
    "storage", ["s3://", "s3://B", "s3://bucket//x", "s3://bucket/../x", "s3://bucket/a b", "s3:///x"]
)
def test_a_malformed_s3_location_is_refused(storage: str) -> None:
    with pytest.raises(JobInvalidError, match="s3://bucket/prefix"):
        open_store(storage, "job")


@pytest.mark.parametrize(
    "storage", ["s3://AKIA:hunter2@bucket/x", "s3://bucket/x?secret=hunter2", "s3://bucket#hunter2"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(storage: str) -> None:
    with pytest.raises(JobInvalidError) as refused:
        open_store(storage, "job")
    assert "hunter2" not in str(refused.value)
    assert "AWS_SECRET_ACCESS_KEY" in refused.value.hint


@pytest.mark.parametrize("job", ["", "..", "a/b", "a b", "x" * 65])
def test_a_job_id_that_leads_elsewhere_is_refused(job: str, tmp_path: Path) -> None:
    with pytest.raises(JobInvalidError):
        open_store(str(tmp_path), job)


@pytest.mark.parametrize("library", ["s3fs", "tenacity"])
def test_a_missing_s3_library_is_said_with_the_command_that_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for module in ("store_s3", "s3_filesystem"):
        monkeypatch.delitem(sys.modules, f"tidegate.state.{module}", raising=False)
    with pytest.raises(JobInvalidError, match=library) as refused:
        open_store("s3://bucket/prefix", "job")
    assert "pip install 'tidegate[s3]'" in refused.value.hint
