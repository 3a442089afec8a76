"""Options: one table, five layers, and messages that name the layer."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from tidegate.engine.errors import JobInvalidError
from tidegate.engine.options import OPTIONS, Layer, environment_layer, file_layer, merge, settings_for
from tidegate.engine.settings import Settings


def test_every_setting_has_exactly_one_option() -> None:
    assert sorted(option.field for option in OPTIONS.values()) == sorted(f.name for f in dataclasses.fields(Settings))


def test_without_any_layer_the_defaults_count() -> None:
    assert merge() == Settings()


def test_each_layer_wins_over_the_one_below_it(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("workers = 3\nretain = 3\nrestarts = 3\n")
    settings = settings_for(
        {"min_pause": 1, "tolerate_failed_checkpoints": 1, "retain": 1, "restarts": 1, "workers": 1},
        {"tolerate_failed_checkpoints": 2, "retain": 2, "restarts": 2, "workers": 2},
        {"workers": 5},
        folder=tmp_path,
        environ={"TIDEGATE_RESTARTS": "4", "TIDEGATE_WORKERS": "4"},
    )
    assert settings.min_pause_s == 1.0
    assert settings.tolerate_failed_checkpoints == 2
    assert settings.retain == 3
    assert settings.restarts == 4
    assert settings.workers == 5


def test_an_option_that_was_not_given_on_the_command_line_leaves_the_layer_below() -> None:
    assert merge(Layer("in Job(...)", {"workers": 2}), Layer("on the command line", {"workers": None})).workers == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("500ms", 0.5), ("1s", 1.0), ("2m", 120.0), (3, 3.0), (0.25, 0.25), ("4", 4.0), (timedelta(seconds=5), 5.0)],
)
def test_durations_are_text_with_a_unit_or_seconds(value: object, seconds: float) -> None:
    assert merge(Layer("in Job(...)", {"checkpoint_interval": value})).checkpoint_interval_s == seconds


@pytest.mark.parametrize(("value", "size"), [(7, 7), ("7", 7), ("7kB", 7000), ("2 MiB", 2 << 20), ("1g", 10**9)])
def test_sizes_are_bytes_or_text_with_a_unit(value: object, size: int) -> None:
    assert merge(Layer("in Job(...)", {"outbox_bytes_max": value})).outbox_bytes_max == size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", "two"),
        ("workers", True),
        ("workers", 1.5),
        ("checkpoint_interval", 0),
        ("checkpoint_interval", "soon"),
        ("checkpoint_interval", True),
        ("min_pause", -1),
        ("delivery", "exactly_once"),
        ("retain", 0),
        ("restarts", -1),
        ("storage", ""),
        ("storage", 3),
        ("until_end", "perhaps"),
        ("outbox_bytes_max", 0),
        ("outbox_bytes_max", "5 apples"),
    ],
)
def test_a_value_that_cannot_be_used_names_option_layer_and_value(name: str, value: object) -> None:
    with pytest.raises(JobInvalidError) as caught:
        merge(Layer("in tidegate.toml", {name: value}))
    assert f"{name} in tidegate.toml is {value!r}" in caught.value.message


def test_a_wrong_value_is_an_error_even_where_a_higher_layer_replaces_it() -> None:
    with pytest.raises(JobInvalidError, match=r"workers in Job\(\.\.\.\) is 0"):
        settings_for({"workers": 0}, None, {"workers": 2}, environ={})


def test_an_unknown_option_in_a_file_proposes_the_close_ones(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('checkpoint_intervall = "1s"\n')
    with pytest.raises(JobInvalidError) as caught:
        settings_for(folder=tmp_path, environ={})
    assert caught.value.message == "unknown option checkpoint_intervall in tidegate.toml"
    assert "did you mean checkpoint_interval" in caught.value.hint


def test_an_unknown_option_in_the_environment_is_spelled_as_there(tmp_path: Path) -> None:
    with pytest.raises(JobInvalidError) as caught:
        settings_for(folder=tmp_path, environ={"TIDEGATE_WORKER": "2"})
    assert caught.value.message == "unknown option TIDEGATE_WORKER in the environment"
    assert "TIDEGATE_WORKERS" in caught.value.hint


def test_an_unknown_option_without_a_close_one_lists_all() -> None:
    with pytest.raises(JobInvalidError) as caught:
        merge(Layer("in Job(...)", {"zzz": 1}))
    assert "checkpoint_interval" in caught.value.hint


def test_variables_of_other_owners_are_passed_over() -> None:
    environ = {
        "TIDEGATE_FAILPOINTS": "/x",
        "TIDEGATE_TRACEBACK": "1",
        "TIDEGATE_SERVICE_HOST": "10.0.0.1",
        "TIDEGATE_REVENUE_SERVICE_PORT_HTTP": "80",
        "TIDEGATE_PORT": "tcp://10.0.0.1:80",
        "TIDEGATE_PORT_80_TCP_ADDR": "10.0.0.1",
        "TIDEGATE_WORKERS": "",
        "HOME": "/",
    }
    assert environment_layer(environ).values == {}


def test_a_variable_that_resembles_no_option_is_passed_over_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert environment_layer({"TIDEGATE_JOBS": "/jobs"}).values == {}
    assert "TIDEGATE_JOBS" in caplog.text


def test_flags_in_the_environment_are_words() -> None:
    assert settings_for(environ={"TIDEGATE_UNTIL_END": "yes", "TIDEGATE_JSON": "0"}).until_end
    assert not settings_for(environ={"TIDEGATE_JSON": "0"}).json_logs


def test_the_own_file_wins_over_pyproject_and_dashes_are_fine(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.tidegate]\ncheckpoint-interval = "2s"\n')
    assert file_layer(tmp_path).values == {"checkpoint_interval": "2s"}
    (tmp_path / "tidegate.toml").write_text("workers = 2\n")
    assert file_layer(tmp_path).values == {"workers": 2}


def test_a_pyproject_of_somebody_else_is_no_layer(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert file_layer(tmp_path).values == {}


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("workers = \n")
    with pytest.raises(JobInvalidError, match=r"tidegate\.toml cannot be read: .*line 1"):
        file_layer(tmp_path)
