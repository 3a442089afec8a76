"""Runs one command and turns its end into an exit code and a message.

| exit code | means |
|---|---|
| 0 | the command did its work; a run finished or was stopped |
| 1 | the job failed |
| 2 | the command line cannot be understood |
| 3 | the job or the configuration is invalid |
| 4 | fenced by another attempt |
| 5 | refused, because the job is already running |
| 130 | interrupted twice |
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from ..engine.errors import TidegateError
from ..engine.logs import DEBUG_VARIABLE
from . import printing
from .commands import tidegate

USAGE: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130
TRACEBACK_VARIABLE: Final = "TIDEGATE_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (those of the process unless given) ask for; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        result = tidegate.main(args=arguments, prog_name="tidegate", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.ClickException as error:
        code = _usage(error)
    except SystemExit:
        # Click ends this way after shell completion, and when the reader of a pipe (`| head`) has seen enough.
        code = 0
    except (KeyboardInterrupt, click.Abort):
        printing.error("interrupted")
        code = INTERRUPTED
    except TidegateError as error:
        _show_traceback()
        printing.error(error.message, error.hint)
        code = _failed(error, error.exit_code, as_json=as_json)
    except Exception as error:  # noqa: BLE001 (the last resort: a defect becomes a message and an exit code)
        hint = f"this is a defect of Tidegate or of the job's code; run again with {TRACEBACK_VARIABLE}=1 to see where"
        printing.error(f"unexpected {type(error).__name__}: {error}", "" if _show_traceback() else hint)
        code = _failed(error, FAILED, as_json=as_json)
    return code


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        context = getattr(error, "ctx", None)
        printing.error(error.format_message(), f"see '{context.command_path} --help'" if context else "")
    return USAGE


def _failed(error: Exception, exit_code: int, *, as_json: bool) -> int:
    if as_json:
        printing.json_document(printing.failure(error, exit_code))
    return exit_code


def _show_traceback() -> bool:
    wanted = bool(os.environ.get(TRACEBACK_VARIABLE) or os.environ.get(DEBUG_VARIABLE))
    if wanted:
        traceback.print_exc()
    return wanted
