"""The public options of a run: one table of names, and the merge of all layers in which they may be given.

Layers in rising precedence: `Job(...)`, `job.run(...)`, file, environment, command line. The file is `tidegate.toml`,
or the table `[tool.tidegate]` of `pyproject.toml`, in the current folder. Every layer uses the same names; the
environment writes them as `TIDEGATE_CHECKPOINT_INTERVAL`, the command line as `--checkpoint-interval`.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .errors import JobInvalidError
from .option_values import at_least, choice, flag, seconds, size, text
from .settings import AT_LEAST_ONCE, EXACTLY_ONCE, Settings

log = logging.getLogger(__name__)
FILE: Final = "tidegate.toml"
PYPROJECT: Final = "pyproject.toml"
ENVIRONMENT_PREFIX: Final = "TIDEGATE_"
NOT_OPTIONS: Final = frozenset({"TIDEGATE_DEBUG", "TIDEGATE_FAILPOINTS", "TIDEGATE_KAFKA_EDGE", "TIDEGATE_TRACEBACK"})
"""Variables with our prefix that other parts read."""
RESEMBLES: Final = 0.8
"""Similarity from which a variable counts as a misspelt option, which is refused."""
_SERVICE_LINK = re.compile(r"TIDEGATE_(.*_)?(SERVICE_(HOST|PORT.*)|PORT|PORT_\d+_.*)")
"""Kubernetes sets such variables in every container for a service called `tidegate`; nobody wrote them."""


@dataclass(frozen=True)
class Option:
    """One public option: its name, the field of `Settings` it sets, how a value is read, and what `--help` says."""

    name: str
    field: str
    parse: Callable[[object, str], object]
    help: str
    metavar: str = ""

    @property
    def is_flag(self) -> bool:
        """Whether the command line takes it without a value."""
        return self.parse is flag

    @property
    def spelled_on_command_line(self) -> str:
        """The name as the command line has it."""
        return "--" + self.name.replace("_", "-")


_TABLE: Final = (
    Option("storage", "storage", text, "Where checkpoints go: a folder or s3://bucket/prefix.", "URL"),
    Option("workers", "workers", at_least(1), "Number of worker processes.", "N"),
    Option(
        "checkpoint_interval",
        "checkpoint_interval_s",
        seconds(above_zero=True),
        "Time from checkpoint to checkpoint.",
        "TIME",
    ),
    Option("min_pause", "min_pause_s", seconds(), "Least time between the end of a checkpoint and the next.", "TIME"),
    Option(
        "checkpoint_timeout",
        "checkpoint_timeout_s",
        seconds(above_zero=True),
        "When a checkpoint try is abandoned.",
        "TIME",
    ),
    Option(
        "tolerate_failed_checkpoints",
        "tolerate_failed_checkpoints",
        at_least(0),
        "Failed tries in a row before the job restarts.",
        "N",
    ),
    Option(
        "delivery",
        "delivery",
        choice(EXACTLY_ONCE, AT_LEAST_ONCE),
        f"What sinks promise: {EXACTLY_ONCE} or {AT_LEAST_ONCE}.",
        "WORD",
    ),
    Option("retain", "retain", at_least(1), "Number of checkpoints to keep.", "N"),
    Option("restarts", "restarts", at_least(0), "Restarts in a row before the job fails.", "N"),
    Option("restart_backoff", "restart_backoff_s", seconds(), "Pause before a restart; doubles each time.", "TIME"),
    Option("restart_backoff_max", "restart_backoff_max_s", seconds(), "Longest pause before a restart.", "TIME"),
    Option(
        "worker_timeout",
        "worker_timeout_s",
        seconds(above_zero=True),
        "Silence after which a worker counts as lost.",
        "TIME",
    ),
    Option(
        "stop_timeout",
        "stop_timeout_s",
        seconds(above_zero=True),
        "How long a stop waits for output to be committed.",
        "TIME",
    ),
    Option(
        "outbox_bytes_max", "outbox_bytes_max", size, "Uncommitted output per worker at which reading pauses.", "SIZE"
    ),
    Option("exchange_bytes_max", "exchange_bytes_max", size, "Bytes in flight to each worker.", "SIZE"),
    Option("batch_rows_max", "batch_rows_max", at_least(1), "Most rows that are processed at once.", "N"),
    Option("until_end", "until_end", flag, "Stop where the sources end now; flush windows, commit, exit 0."),
    Option("takeover", "takeover", flag, "Start although the job seems to run elsewhere; fences that run."),
    Option("json", "json_logs", flag, "Logs as JSON lines on stderr, the result as JSON on stdout."),
)
OPTIONS: Final[Mapping[str, Option]] = {option.name: option for option in _TABLE}
"""All options by public name, in the order of `--help`."""


@dataclass(frozen=True)
class Layer:
    """Options as one place gave them: `values` by public name, `where` for messages, `spell` writes a name its way."""

    where: str
    values: Mapping[str, object] = field(default_factory=dict)
    spell: Callable[[str], str] = str


def merge(*layers: Layer) -> Settings:
    """Return the settings of a run from layers in rising precedence.

    A value of None counts as not given. Raises `JobInvalidError` that names the layer for an unknown name and for a
    value that cannot be used, also when a higher layer would replace that value.
    """
    merged: dict[str, object] = {}
    for layer in layers:
        check_names(layer)
        for name, value in layer.values.items():
            if value is not None:
                option = OPTIONS[name]
                merged[option.field] = option.parse(value, f"{layer.spell(name)} {layer.where}")
    return Settings(**merged)  # type: ignore[arg-type]  # every parser returns what its field holds


def settings_for(
    job: Mapping[str, object] | None = None,
    run: Mapping[str, object] | None = None,
    command_line: Mapping[str, object] | None = None,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings from all layers; `folder` (the current one) has the file, `environ` the environment."""
    return merge(
        Layer("in Job(...)", job or {}),
        Layer("in run(...)", run or {}),
        file_layer(folder or Path()),
        environment_layer(os.environ if environ is None else environ),
        Layer("on the command line", command_line or {}, lambda name: OPTIONS[name].spelled_on_command_line),
    )


def check_names(layer: Layer) -> None:
    """Raise `JobInvalidError` for the first name that is no option, with the closest ones."""
    for name in layer.values:
        if name not in OPTIONS:
            close = [layer.spell(known) for known in difflib.get_close_matches(str(name), OPTIONS, 3, 0.6)]
            known = ", ".join(layer.spell(option) for option in OPTIONS)
            raise JobInvalidError(
                f"unknown option {layer.spell(name)} {layer.where}",
                hint=f"did you mean {' or '.join(close)}?" if close else f"known options: {known}",
            )


def file_layer(folder: Path) -> Layer:
    """Read the options file of a folder; `tidegate.toml` wins over `pyproject.toml`, and neither need be there."""
    own = folder / FILE
    if own.is_file():
        return Layer(f"in {FILE}", _with_underscores(_read_toml(own)))
    project = folder / PYPROJECT
    if project.is_file():
        tool = _read_toml(project).get("tool", {})
        table = tool.get("tidegate", {}) if isinstance(tool, dict) else {}
        where = f"in [tool.tidegate] of {PYPROJECT}"
        if not isinstance(table, dict):
            raise JobInvalidError(
                f"[tool.tidegate] of {PYPROJECT} is not a table", hint="write options below it, such as workers = 2"
            )
        return Layer(where, _with_underscores(table))
    return Layer(f"in {FILE}")


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Take the options from environment variables; an empty one counts as not set.

    A variable with our prefix that resembles no option may serve somebody else: it is passed over with a warning.
    """
    values: dict[str, object] = {}
    for variable, value in environ.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not value or name == variable.lower() or variable in NOT_OPTIONS or _SERVICE_LINK.fullmatch(variable):
            continue
        if difflib.get_close_matches(name, OPTIONS, 1, RESEMBLES):
            values[name] = value
        else:
            log.warning("environment variable %s is no option of Tidegate and is passed over", variable)
    return Layer("in the environment", values, lambda name: ENVIRONMENT_PREFIX + name.upper())


def _with_underscores(table: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("-", "_"): value for name, value in table.items()}


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JobInvalidError(f"{path.name} cannot be read: {error}", hint="it must be a TOML file") from error
    except OSError as error:
        raise JobInvalidError(f"{path.name} cannot be read: {error.strerror}") from error
