"""Finding the job in a job file or module, in the command line's process and again in every worker."""

from __future__ import annotations

import importlib
import runpy
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import JobInvalidError, TidegateError
from .job import Job

RUN_NAME: Final = "__tidegate__"
"""`__name__` of a job file while it is loaded, so that its `if __name__ == "__main__"` part is left alone."""


@dataclass(frozen=True)
class JobReference:
    """Where a job is defined: a file or a module, and the name of the variable if there are several."""

    kind: str
    target: str
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> JobReference:
        """Parse `path.py`, `path.py:name`, `pkg.mod` or `pkg.mod:name`."""
        target, colon, name = text.rpartition(":")
        if not colon or "/" in name or name.endswith(".py"):
            target, name = text, ""
        kind = "file" if target.endswith(".py") or "/" in target else "module"
        return cls(kind, target, name or None)

    def __str__(self) -> str:
        return f"{self.target}:{self.name}" if self.name else self.target


def load(reference: JobReference, job: str | None = None) -> Job:
    """Return the job that a reference means; `job` picks one by its id where the file has several.

    Raises `JobInvalidError` for a missing file, an error in it (with the user's line), no job, or several.
    """
    space = _run_file(Path(reference.target)) if reference.kind == "file" else _import(reference.target)
    if reference.name:
        found = space.get(reference.name)
        if not isinstance(found, Job):
            raise JobInvalidError(
                f"{reference.target} has no job called '{reference.name}'",
                hint=f"it has {sorted(n for n, v in space.items() if isinstance(v, Job)) or 'no job at all'}",
            )
        return found
    jobs = {name: value for name, value in space.items() if isinstance(value, Job) and job in {None, value.name}}
    distinct = list({id(value): value for value in jobs.values()}.values())
    if not distinct:
        raise JobInvalidError(f"{reference.target} defines no job", hint='write job = tg.Job("name") at its top level')
    if len(distinct) > 1:
        raise JobInvalidError(
            f"{reference.target} defines several jobs: {sorted(jobs)}",
            hint=f"say which one, e.g. {reference.target}:{sorted(jobs)[0]}",
        )
    return distinct[0]


def _run_file(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        raise JobInvalidError(f"job file {path} does not exist", hint="give the path of a Python file that defines a job")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return runpy.run_path(str(path), run_name=RUN_NAME)
    except TidegateError:
        raise
    except (Exception, SystemExit) as error:  # a job file may raise anything
        raise _broken(str(path), error) from error


def _import(name: str) -> Mapping[str, object]:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return vars(importlib.import_module(name))
    except TidegateError:
        raise
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise JobInvalidError(f"there is no module '{name}'", hint="give a job file (path.py) or an importable module") from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:  # a job module may raise anything
        raise _broken(name, error) from error


def _broken(target: str, error: BaseException) -> JobInvalidError:
    if isinstance(error, SyntaxError):
        return JobInvalidError(f"{target}:{error.lineno}: {error.msg}", hint=(error.text or "").strip())
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).name == Path(target).name] or frames[-1:]
    last = own[-1]
    return JobInvalidError(f"{target}:{last.lineno}: {type(error).__name__}: {error}", hint=f"the line is: {last.line}")


def reference_for(job: Job) -> JobReference:
    """Return how a worker process finds this job again.

    Raises `JobInvalidError` for a job that no file defines, such as one typed into a prompt.
    """
    loaded = _loaded.get(id(job))
    if loaded is not None:
        return loaded
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    for name, value in list(vars(main).items()) if main is not None else []:
        if value is job and file:
            return JobReference("file", str(Path(file).resolve()), name)
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is job and module_name != "__main__":
                return JobReference("module", module_name, name)
    raise JobInvalidError(
        f"job '{job.name}' is not a top-level variable of a file, so worker processes could not find it",
        hint="save it as job = tg.Job(...) in a .py file and run that",
    )


_loaded: dict[int, JobReference] = {}


def load_for_run(reference: JobReference) -> Job:
    """Load a job and remember where it came from, for `reference_for`."""
    job = load(reference)
    absolute = str(Path(reference.target).resolve()) if reference.kind == "file" else reference.target
    _loaded[id(job)] = JobReference(reference.kind, absolute, reference.name)
    return job
