"""Exit codes and messages of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from tidegate.cli import commands, main
from tidegate.engine.errors import AlreadyRunningError, FencedError, JobInvalidError, WorkerLostError
from tidegate.engine.options import OPTIONS

Capture = pytest.CaptureFixture[str]

GOOD = """
import tidegate as tg
job = tg.Job("good", workers=2)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and no options in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEGATE_TRACEBACK", raising=False)
    monkeypatch.setenv("TIDEGATE_DEBUG", "")
    return tmp_path


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `tidegate demo` end with an error."""

    def callback(**_: object) -> int:
        raise error

    monkeypatch.setattr(commands.demo, "callback", callback)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["run"], "Missing argument"),
        (["run", "x.py", "--worker", "2"], "No such option"),
        (["run", "x.py", "--workers", "two"], "'--workers': value is 'two'; it must be a whole number, 1 or more"),
        (["run", "x.py", "--checkpoint-interval", "soon"], "'--checkpoint-interval': value is 'soon'"),
        (["run", "x.py", "--delivery", "perhaps"], "it must be exactly-once or at-least-once"),
        (["sql", "revenue"], "Missing argument 'QUERY'"),
        (["sql", "revenue", "select 1", "--timeout", "soon"], "'--timeout'"),
        (["checkpoints", "revenue", "--limit", "0"], "'--limit'"),
    ],
)
def test_what_cannot_be_understood_ends_with_2_and_says_where_help_is(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "--help'" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerLostError("lost", hint="h"), 1),
        (JobInvalidError("lost", hint="h"), 3),
        (FencedError("lost", hint="h"), 4),
        (AlreadyRunningError("lost", hint="h"), 5),
    ],
)
def test_an_error_is_message_hint_and_exit_code_without_a_traceback(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    ending(monkeypatch, error)
    assert main(["demo"]) == code
    assert capsys.readouterr().err == "error: lost\n  hint: h\n"


def test_an_unexpected_exception_says_how_to_see_more(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    ending(monkeypatch, KeyError("x"))
    assert main(["demo"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected KeyError: 'x'\n")
    assert "TIDEGATE_TRACEBACK=1" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("how", ["variable", "option"])
def test_a_traceback_is_shown_when_asked_for(how: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    ending(monkeypatch, KeyError("x"))
    if how == "variable":
        monkeypatch.setenv("TIDEGATE_TRACEBACK", "1")
    assert main(["demo", *(["--debug"] if how == "option" else [])]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_ends_with_130(error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    ending(monkeypatch, error)
    assert main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    monkeypatch.setattr("sys.stdout", __import__("io").StringIO())
    monkeypatch.setattr("sys.stderr", __import__("io").StringIO())
    assert main(["demo"]) == 0


def test_the_version_is_one_line(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tidegate ")


def test_every_option_is_in_the_help_of_run(capsys: Capture) -> None:
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    for option in OPTIONS.values():
        assert option.spelled_on_command_line in text


def test_a_job_file_that_is_not_there(capsys: Capture) -> None:
    assert main(["run", "nowhere.py"]) == 3
    assert "job file nowhere.py does not exist" in capsys.readouterr().err


def test_a_module_that_is_not_there(capsys: Capture) -> None:
    assert main(["run", "no_such_module:job"]) == 3
    assert "there is no module 'no_such_module'" in capsys.readouterr().err


def test_a_syntax_error_in_a_job_file_has_file_and_line(folder: Path, capsys: Capture) -> None:
    (folder / "broken.py").write_text("a = 1\nb = (\n")
    assert main(["run", "broken.py"]) == 3
    assert capsys.readouterr().err.startswith("error: broken.py:2: ")


def test_an_exception_in_a_job_file_has_file_line_and_text(folder: Path, capsys: Capture) -> None:
    (folder / "broken.py").write_text("a = 1\nb = a / 0\n")
    assert main(["run", "broken.py"]) == 3
    err = capsys.readouterr().err
    assert "broken.py:2: ZeroDivisionError" in err
    assert "b = a / 0" in err


def test_a_wrong_name_in_a_job_file_lists_the_right_ones(folder: Path, capsys: Capture) -> None:
    (folder / "good.py").write_text(GOOD)
    assert main(["run", "good.py:other"]) == 3
    err = capsys.readouterr().err
    assert "no job called 'other'" in err
    assert "it has job" in err


def test_a_file_without_a_job(folder: Path, capsys: Capture) -> None:
    (folder / "empty.py").write_text("a = 1\n")
    assert main(["run", "empty.py"]) == 3
    assert "empty.py defines no job" in capsys.readouterr().err


def test_an_unknown_option_in_the_file_of_options(folder: Path, capsys: Capture) -> None:
    (folder / "good.py").write_text(GOOD)
    (folder / "tidegate.toml").write_text("worker = 2\n")
    assert main(["run", "good.py"]) == 3
    err = capsys.readouterr().err
    assert "unknown option worker in tidegate.toml" in err
    assert "did you mean workers" in err


def test_an_unknown_option_of_a_job(folder: Path, capsys: Capture) -> None:
    (folder / "bad.py").write_text('import tidegate as tg\njob = tg.Job("bad", chekpoint_interval="1s")\n')
    assert main(["run", "bad.py"]) == 3
    assert "unknown option chekpoint_interval in Job(...)" in capsys.readouterr().err


def test_a_wrong_value_of_a_job_is_named(folder: Path, capsys: Capture) -> None:
    (folder / "bad.py").write_text('import tidegate as tg\njob = tg.Job("bad", workers=0)\n')
    assert main(["run", "bad.py"]) == 3
    assert "workers in Job(...) is 0" in capsys.readouterr().err


def test_with_json_an_error_is_one_document_on_stdout(capsys: Capture) -> None:
    assert main(["run", "nowhere.py", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 3
    assert document["error"]["type"] == "JobInvalidError"
    assert "nowhere.py" in document["error"]["message"]


@pytest.mark.parametrize("arguments", [["checkpoints"], ["sql"], ["catalog", "rebuild"]])
def test_a_job_that_is_not_in_the_storage(arguments: list[str], folder: Path, capsys: Capture) -> None:
    query = ["select 1"] if arguments == ["sql"] else []
    assert main([*arguments, "revenu", *query, "--json"]) == 3
    assert "there is no job 'revenu' in storage ./.tidegate" in capsys.readouterr().err
    (folder / ".tidegate" / "revenue").mkdir(parents=True)
    assert main([*arguments, "revenu", *query]) == 3
    assert "jobs there: revenue" in capsys.readouterr().err


def test_a_name_that_no_job_can_have(capsys: Capture) -> None:
    assert main(["checkpoints", "a b"]) == 3
    assert "cannot be used as a name" in capsys.readouterr().err
