"""Builds a worker's dataflow from the job graph: steps behind entries, one exchange port per keyed operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from .entries import PortEntry, Reach, SourceEntry
from .exchange import Outgoing
from .feeds import SourceFeed
from .graph import Graph, MapNode, SinkNode, SourceNode, UnionNode, WindowNode
from .ids import WATERMARK_MIN
from .operators.stateless import compile_chain
from .operators.window import WindowState, partial, split_by_worker, table_spec
from .ports.keyed import TableFactory
from .ports.sink import SinkContext
from .ports.source import ReaderContext
from .projection import used_columns
from .settings import AT_LEAST_ONCE
from .sink_steps import DirectStep, OutboxStep
from .steps import ExchangeStep, LocalChannel, MapStep, Step, Tee, UnionStep, WindowStep
from .watermarks import SplitWatermarks


@dataclass(frozen=True)
class Place:
    """Where a dataflow runs."""

    job: str
    job_uid: str
    attempt: int
    subtask: int
    parallelism: int
    key_groups: int
    delivery: str
    batch_rows_max: int
    exchange_bytes_max: int
    targets: Mapping[str, Mapping[str, object]]
    watermarks: Mapping[str, int]


@dataclass(frozen=True)
class Hooks:
    """What the dataflow calls while it runs, in the data thread (`wake` from any thread)."""

    wake: Callable[[], None]
    state_handed: Callable[[str, Sequence[pl.DataFrame]], None]
    output_handed: Callable[[str, Sequence[pa.RecordBatch]], None]
    flushed: Callable[[str], None]


@dataclass
class Dataflow:
    """The built steps and entries. `ports` are in graph order, so later ones are downstream of earlier ones."""

    sources: dict[str, SourceEntry] = field(default_factory=dict)
    ports: list[PortEntry] = field(default_factory=list)
    windows: dict[str, WindowStep] = field(default_factory=dict)
    outboxes: dict[str, OutboxStep] = field(default_factory=dict)
    direct: dict[str, DirectStep] = field(default_factory=dict)
    unions: list[UnionStep] = field(default_factory=list)

    @property
    def participants(self) -> int:
        """How many parts a checkpoint of this worker consists of: its sources, keyed operators and sinks."""
        return len(self.sources) + len(self.windows) + len(self.outboxes) + len(self.direct)


class Builder:
    """Builds one worker's dataflow, from the sinks back to the entries."""

    def __init__(
        self, graph: Graph, place: Place, hooks: Hooks, new_table: TableFactory, outgoing: Mapping[int, Outgoing]
    ) -> None:
        self._graph = graph
        self._place = place
        self._hooks = hooks
        self._new_table = new_table
        self._outgoing = outgoing
        self._unions: dict[int, UnionStep] = {}
        self._reach: dict[int, Reach] = {}
        self._port_of: dict[int, int] = {}
        self._ports: dict[int, PortEntry] = {}
        self.built = Dataflow()

    def build(self) -> Dataflow:
        """Build everything and return it; nothing runs yet."""
        windows = [i for i, node in enumerate(self._graph.nodes) if isinstance(node, WindowNode)]
        self._port_of = {index: port for port, index in enumerate(windows)}
        # Last first: what comes before a window sends to its port, so the port has to be there already.
        for index in reversed(windows):
            self._ports[index] = self._window(index)
        self.built.ports = [self._ports[index] for index in windows]
        for index, node in enumerate(self._graph.nodes):
            if isinstance(node, SourceNode):
                self.built.sources[node.uid] = self._source(index, node)
        return self.built

    def _window(self, index: int) -> PortEntry:
        node = self._graph.nodes[index]
        assert isinstance(node, WindowNode)
        place = self._place
        reach = Reach()
        then = self._after(index, reach)
        floor = place.watermarks.get(node.uid, WATERMARK_MIN)
        state = WindowState(self._new_table(table_spec(node)), node, order_columns=self._graph.needs_order())
        step = WindowStep(node.uid, state, floor, self._hooks.state_handed, then)
        self.built.windows[node.uid] = step
        return PortEntry(
            place.parallelism, place.subtask, place.exchange_bytes_max // place.parallelism, floor, reach, step
        )

    def _source(self, index: int, node: SourceNode) -> SourceEntry:
        place, source = self._place, node.source
        reach = Reach()
        then = self._after(index, reach)
        context = ReaderContext(
            job=place.job,
            uid=node.uid,
            subtask=place.subtask,
            parallelism=place.parallelism,
            order_columns=self._graph.needs_order(),
            columns=used_columns(self._graph, index),
        )
        feed = SourceFeed(node.uid, source.open_reader(context), place.batch_rows_max, self._hooks.wake)
        watermarks = SplitWatermarks(source.max_out_of_orderness_ms, source.idle_after_ms)
        return SourceEntry(node.uid, feed, watermarks, reach, then)

    def _after(self, index: int, reach: Reach) -> Step:
        """Return the step that takes what the node at `index` puts out; note in `reach` what lies behind it."""
        steps = [step for reader in self._graph.readers(index) for step in self._reader(reader, index, reach)]
        return steps[0] if len(steps) == 1 else Tee(steps)

    def _reader(self, reader: int, index: int, reach: Reach) -> list[Step]:
        node = self._graph.nodes[reader]
        if isinstance(node, MapNode):
            return [self._chain(reader, reach)]
        if isinstance(node, UnionNode):
            return self._union(reader, node, index, reach)
        if isinstance(node, WindowNode):
            return [self._exchange(reader, node, reach)]
        if isinstance(node, SinkNode):
            return [self._sink(node)]
        raise AssertionError(f"{type(node).__name__} reads nothing")

    def _chain(self, first: int, reach: Reach) -> Step:
        chain = [self._graph.nodes[first]]
        last = first
        while True:
            readers = self._graph.readers(last)
            if len(readers) != 1 or not isinstance(self._graph.nodes[readers[0]], MapNode):
                break
            last = readers[0]
            chain.append(self._graph.nodes[last])
        function = compile_chain([node for node in chain if isinstance(node, MapNode)])
        return MapStep(function, self._after(last, reach))

    def _union(self, reader: int, node: UnionNode, index: int, reach: Reach) -> list[Step]:
        if reader not in self._unions:
            behind = Reach()
            union = UnionStep(len(node.inputs), self._after(reader, behind))
            behind.unions.append(union)
            self._unions[reader] = union
            self._reach[reader] = behind
            self.built.unions.append(union)
        behind = self._reach[reader]
        reach.unions += [union for union in behind.unions if union not in reach.unions]
        reach.exchanges += [step for step in behind.exchanges if step not in reach.exchanges]
        return [self._unions[reader].input(i) for i, source in enumerate(node.inputs) if source == index]

    def _exchange(self, reader: int, node: WindowNode, reach: Reach) -> Step:
        place = self._place
        channels: list[Outgoing | LocalChannel] = [
            self._ports[reader].own if worker == place.subtask else self._outgoing[worker]
            for worker in range(place.parallelism)
        ]
        step = ExchangeStep(
            self._port_of[reader],
            lambda frame: partial(node, frame, place.key_groups),
            lambda partials: split_by_worker(partials, place.parallelism, place.key_groups),
            channels,
        )
        reach.exchanges.append(step)
        return step

    def _sink(self, node: SinkNode) -> Step:
        place = self._place
        context = SinkContext(
            place.job, place.job_uid, node.uid, place.attempt, place.parallelism, place.targets.get(node.uid, {})
        )
        encoder = node.sink.open_encoder(context)
        if (node.sink.delivery or place.delivery) == AT_LEAST_ONCE:
            direct = DirectStep(node.uid, encoder, node.sink.open_writer(context), self._hooks.flushed)
            self.built.direct[node.uid] = direct
            return direct
        outbox = OutboxStep(node.uid, encoder, self._hooks.output_handed)
        self.built.outboxes[node.uid] = outbox
        return outbox
