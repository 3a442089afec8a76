"""The commands: each parses its arguments, calls one function and prints what it returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..engine.errors import JobInvalidError
from ..engine.logs import DEBUG_VARIABLE
from ..engine.option_values import seconds
from ..engine.options import OPTIONS, Option
from ..engine.settings import Settings

if TYPE_CHECKING:
    from click.decorators import FC

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
SQL_ROWS: Final = 1000
SQL_TIMEOUT: Final = "30s"


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 (only this command needs it)

        try:
            click.echo(f"tidegate {version('tidegate')}")
        except PackageNotFoundError:
            click.echo("tidegate (not installed)")
        context.exit()


def _set_debug(_context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        # In the environment, because worker processes need to know too.
        os.environ[DEBUG_VARIABLE] = "1"


def _reader(option: Option) -> Callable[[click.Context, click.Parameter, object], object]:
    def read(_context: click.Context, _parameter: click.Parameter, value: object) -> object:
        try:
            return None if value is None else option.parse(value, "value")
        except JobInvalidError as error:
            raise click.BadParameter(error.message) from error

    return read


def _default(option: Option) -> str:
    value = getattr(Settings(), option.field)
    if option.metavar == "SIZE":
        return f"{value >> 20}MiB"
    return f"{value:g}s" if option.metavar == "TIME" else str(value)


def _seconds(_context: click.Context, _parameter: click.Parameter, value: object) -> object:
    try:
        return seconds(above_zero=True)(value, "value")
    except JobInvalidError as error:
        raise click.BadParameter(error.message) from error


def option_of(name: str) -> Callable[[FC], FC]:
    """Return the click option of a public option; not given is None, so that lower layers count."""
    option = OPTIONS[name]
    shown = option.help + ("" if option.is_flag else f"  [{_default(option)}]")
    spelled = option.spelled_on_command_line
    if option.is_flag:
        declaration = f"{spelled}/--no-{spelled.removeprefix('--')}"
        return click.option(declaration, name, default=None, help=option.help)
    return click.option(spelled, name, default=None, metavar=option.metavar, help=shown, callback=_reader(option))


def _run_options(command: FC) -> FC:
    for name in reversed(list(OPTIONS)):
        command = option_of(name)(command)
    return command


debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Log details, show tracebacks.",
)
storage = option_of("storage")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group(context_settings=CONTEXT)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def tidegate() -> None:
    """Exactly-once stream processing between Kafka topics and files.

    JOB is a job file (revenue.py, revenue.py:name, package.module:name) or the name of a job in --storage.
    Options may also be set in tidegate.toml, in [tool.tidegate] of pyproject.toml, and as TIDEGATE_NAME.
    """


@tidegate.command()
@click.argument("reference", metavar="JOBFILE[:NAME]|MODULE:NAME")
@_run_options
@debug
def run(reference: str, **given: object) -> int:
    """Run a job until it finishes or is stopped (Ctrl-C).

    TIME is a number of seconds or text such as 500ms, 10s, 1m. Ctrl-C stops with a final checkpoint, a second Ctrl-C
    at once. Exit codes: 0 finished or stopped, 1 failed, 2 usage, 3 invalid job or configuration, 4 fenced by another
    attempt, 5 already running, 130 interrupted twice.
    """
    from .running import run_reference  # noqa: PLC0415 (loads the engine, which other commands need not)

    return run_reference(reference, given)


@tidegate.command()
@click.argument("job", metavar="JOB")
@storage
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Most checkpoints to show.")
@as_json
@debug
def checkpoints(job: str, storage: str | None, limit: int, *, as_json: bool) -> int:
    """List the checkpoints of a job, newest first."""
    from .queries import show_checkpoints  # noqa: PLC0415 (loads the catalog's database)

    return show_checkpoints(job, storage, limit, as_json=as_json)


@tidegate.command()
@click.argument("job", metavar="JOB")
@click.argument("query")
@storage
@click.option("--limit", type=click.IntRange(1), default=SQL_ROWS, show_default=True, help="Most rows to show.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="TIME",
    default=SQL_TIMEOUT,
    show_default=True,
    callback=_seconds,
    help="Longest time for the query.",
)
@as_json
@debug
def sql(job: str, query: str, storage: str | None, limit: int, timeout_s: float, *, as_json: bool) -> int:
    r"""Run a read-only SQL query over a job's catalog and its keyed state.

    \b
    tidegate sql revenue "select * from checkpoints order by epoch desc limit 5"
    tidegate sql revenue "select * from state('revenue-10s')"
    """
    from .queries import show_query  # noqa: PLC0415 (loads the catalog's database)

    return show_query(job, query, storage, limit, timeout_s, as_json=as_json)


@tidegate.group()
def catalog() -> None:
    """Look after the index of checkpoints that SQL reads."""


@catalog.command()
@click.argument("job", metavar="JOB")
@storage
@as_json
@debug
def rebuild(job: str, storage: str | None, *, as_json: bool) -> int:
    """Make a job's catalog again from its manifests."""
    from .queries import rebuild_catalog  # noqa: PLC0415 (loads the catalog's database)

    return rebuild_catalog(job, storage, as_json=as_json)


@tidegate.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where the demo works; a temporary folder if not given.",
)
@debug
def demo(folder: Path | None) -> int:
    """Run a windowed job, kill a worker on the way, and check that the output is exact."""
    from ..demo import run_demo  # noqa: PLC0415 (loads everything)
    from .telling import teller  # noqa: PLC0415 (likewise)

    return run_demo(folder, teller())
