"""Compiles a chain of stateless operators into one function; neighbouring expressions become one query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import polars as pl

from ..errors import OperatorError, TidegateError
from ..expressions import describe
from ..graph import MapNode
from ..ids import HIDDEN_PREFIX

Transform = Callable[[pl.DataFrame], pl.DataFrame]


def compile_chain(nodes: Sequence[MapNode]) -> Transform:
    """Return a function that runs all nodes in order.

    What a user's expression or function raises becomes an `OperatorError` that names the operator and its line.
    """
    stages: list[Transform] = []
    for is_lazy, group in groupby(nodes, lambda node: node.lazy is not None):
        members = list(group)
        stages += [_fused(members)] if is_lazy else [_guarded(node) for node in members]
    if len(stages) == 1:
        return stages[0]

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        for stage in stages:
            if not frame.height:
                return frame
            frame = stage(frame)
        return frame

    return run


def _fused(nodes: Sequence[MapNode]) -> Transform:
    expected = dict(nodes[-1].schema)

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        try:
            result = _query(frame, nodes).collect(engine="in-memory")
        except Exception as error:  # an expression may hold a user's function
            raise _blamed(nodes, frame, error) from error
        found = {name: dtype for name, dtype in result.schema.items() if not name.startswith(HIDDEN_PREFIX)}
        if not found.items() <= expected.items():  # a source leaves out columns that nobody reads
            raise OperatorError(
                f"{nodes[-1].label} made {describe(found)}; the job was built for {describe(expected)}",
                hint="say what a Python function returns, e.g. map_elements(fn, return_dtype=pl.Int64)",
            )
        return result

    return run


def _query(frame: pl.DataFrame, nodes: Sequence[MapNode]) -> pl.LazyFrame:
    lazy = frame.lazy()
    for node in nodes:
        assert node.lazy is not None
        lazy = node.lazy(lazy)
    return lazy


def _blamed(nodes: Sequence[MapNode], frame: pl.DataFrame, error: Exception) -> OperatorError:
    """Run the failed batch again, operator by operator, to find the one that failed."""
    rows = frame.height
    for node in nodes:
        try:
            frame = _query(frame, [node]).collect(engine="in-memory")
        except Exception as alone:  # noqa: BLE001 (likewise; the caller raises what is returned)
            return _failed(node.label, rows, alone)
    return _failed(" -> ".join(node.label for node in nodes), rows, error)


def _failed(label: str, rows: int, error: Exception) -> OperatorError:
    text = str(error).split("\n\nResolved plan", maxsplit=1)[0].strip()
    return OperatorError(
        f"{label} failed on a batch of {rows} rows: {type(error).__name__}: {text}",
        hint="filter such rows out before it, or use a form that gives null instead, e.g. cast(..., strict=False)",
    )


def _guarded(node: MapNode) -> Transform:
    function = node.eager
    assert function is not None

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        try:
            return function(frame)
        except TidegateError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise OperatorError(
                f"{node.label} raised {type(error).__name__} on a batch of {frame.height} rows: {error}{_line(error)}",
                hint="the function has to cope with every row that reaches it",
            ) from error

    return run


def _line(error: Exception) -> str:
    """Return where in the user's function the error was raised."""
    trace = error.__traceback__
    own = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "site-packages" not in file and not file.endswith("user_function.py"):
            own = f" ({file.rsplit('/', 1)[-1]}:{trace.tb_lineno})"
        trace = trace.tb_next
    return own or ""
