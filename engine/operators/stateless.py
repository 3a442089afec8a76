"""Compiles a chain of stateless operators into one function; neighbouring expressions become one query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import polars as pl

from ..errors import OperatorError, TidegateError
from ..graph import MapNode

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
    label = " -> ".join(node.label for node in nodes)

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        lazy = frame.lazy()
        for node in nodes:
            assert node.lazy is not None
            lazy = node.lazy(lazy)
        try:
            return lazy.collect(engine="in-memory")
        except (pl.exceptions.PolarsError, ValueError, TypeError, ArithmeticError) as error:
            raise OperatorError(f"{label} failed on a batch of {frame.height} rows: {error}") from error

    return run


def _guarded(node: MapNode) -> Transform:
    function = node.eager
    assert function is not None

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        try:
            return function(frame)
        except TidegateError:
            raise
        except Exception as error:  # a user's function may raise anything
            text = f"{node.label} raised {type(error).__name__} on a batch of {frame.height} rows: {error}"
            raise OperatorError(text) from error

    return run
