"""Finding the job in a job file or module, in the command line's process and again in every worker."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

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
    jobs = {name: value for name, value in space.items() if isinstance(value, Job)}
    if reference.name:
        if reference.name not in jobs:
            raise JobInvalidError(
                f"{reference.target} has no job called '{reference.name}'",
                hint=f"it has {', '.join(sorted(jobs)) or 'no job at all'}",
            )
        return jobs[reference.name]
    distinct = {id(value): (name, value) for name, value in jobs.items() if job in {None, value.name}}
    names = sorted(name for name, _ in distinct.values())
    if not distinct:
        called = f" called '{job}'" if job else ""
        raise JobInvalidError(
            f"{reference.target} defines no job{called}", hint='write job = tg.Job("name") at its top level'
        )
    if len(distinct) > 1:
        raise JobInvalidError(
            f"{reference.target} defines several jobs: {', '.join(names)}",
            hint=f"say which one, e.g. {reference.target}:{names[0]}",
        )
    return next(value for _, value in distinct.values())


def _run_file(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        raise JobInvalidError(
            f"job file {path} does not exist", hint="give the path of a Python file that defines a job"
        )
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return runpy.run_path(str(path), run_name=RUN_NAME)
    except TidegateError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(str(path), path.resolve(), error) from error


def _import(name: str) -> Mapping[str, object]:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return vars(importlib.import_module(name))
    except TidegateError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise JobInvalidError(
                f"there is no module '{name}'", hint="give a job file (path.py), or a module that can be imported here"
            ) from None
        raise _broken(name, _file_of(name), error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, _file_of(name), error) from error


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _broken(target: str, file: Path | None, error: BaseException) -> JobInvalidError:
    """Name the line of the job file, and the one of a module of the user's that it came from."""
    if isinstance(error, SyntaxError):
        return JobInvalidError(
            f"{error.filename or target}:{error.lineno}: {error.msg}", hint=f"the line is: {(error.text or '').strip()}"
        )
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    last = next((f for f in reversed(frames) if file and Path(f.filename).resolve() == file), None)
    last = last or (frames[-1] if frames else None)
    place = f"{target}:{last.lineno}" if last else target
    what = f"ended with {error!r}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    return JobInvalidError(f"{place}: {what}", hint=f"the line is: {last.line}" if last else "")


def load_for_run(reference: JobReference) -> Job:
    """Load a job and remember where it came from, for `reference_for`."""
    job = load(reference)
    absolute = str(Path(reference.target).resolve()) if reference.kind == "file" else reference.target
    _loaded[job] = JobReference(reference.kind, absolute, reference.name)
    return job


_loaded: WeakKeyDictionary[Job, JobReference] = WeakKeyDictionary()


def reference_for(job: Job) -> JobReference:
    """Return how a worker process finds this job again.

    Raises `JobInvalidError` for a job that no file defines, such as one typed into a prompt or a notebook.
    """
    found = _loaded.get(job) or next(_definitions(job), None)
    if found is None:
        raise JobInvalidError(
            f"job '{job.name}' is no variable at the top level of a file, so worker processes could not find it",
            hint="save it as job = tg.Job(...) in a .py file and run that; notebooks and prompts have no such file",
        )
    return found


def _definitions(job: Job) -> Iterator[JobReference]:
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    for name in _names(main, job):
        if spec is not None:  # started with python -m
            yield JobReference("module", spec.name, name)
        elif file is not None and Path(file).is_file():
            yield JobReference("file", str(Path(file).resolve()), name)
    for module_name, module in list(sys.modules.items()):
        if module_name != "__main__" and getattr(module, "__file__", None):
            yield from (JobReference("module", module_name, name) for name in _names(module, job))


def _names(module: object, job: Job) -> list[str]:
    return [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is job]
