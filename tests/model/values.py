"""The product's values as tuples and back: machines, committables, manifests."""

from __future__ import annotations

from typing import Any, Final

from tidegate.engine.protocol.manifest import Committable, FileRef, Kind, SinkSubtask
from tidegate.engine.protocol.manifest import Manifest as RealManifest
from tidegate.engine.protocol.table import Machine

from model.world import Manifest, Output

SINK: Final = "out"

Frozen = tuple[Any, ...]


def freeze_machine(machine: Machine | None) -> Frozen:
    """Return a machine as a tuple."""
    return () if machine is None else (type(machine), *vars(machine).items())


def thaw_machine(frozen: Frozen) -> Any:
    """Return the machine again."""
    if not frozen:
        return None
    machine = object.__new__(frozen[0])
    machine.__dict__.update(frozen[1:])
    return machine


def thaw_output(output: Output) -> Committable:
    """Return an output as the product's committable."""
    return Committable(SINK, output.subtask, output.epoch, (FileRef(output.file, 1, "", 1),))


def freeze_output(committable: Committable) -> Output:
    """Return a committable as a tuple."""
    return Output(committable.subtask, committable.epoch, committable.segments[0].name)


def thaw_manifest(manifest: Manifest) -> RealManifest:
    """Return the product's manifest."""
    return RealManifest(
        job="model", job_uid="", epoch=manifest.epoch, attempt=manifest.attempt, tries=manifest.tries,
        kind=Kind.PERIODIC, delivery="exactly-once", writer="", parallelism=1, key_groups=1, created_ms=0,
        committables=tuple(thaw_output(output) for output in manifest.pending),
        sinks=tuple(SinkSubtask(SINK, subtask, committed) for subtask, committed in manifest.sinks),
    )  # fmt: skip


def freeze_manifest(real: RealManifest) -> Manifest:
    """Return a manifest as a tuple."""
    pending = tuple(freeze_output(c) for c in real.committables)
    return Manifest(real.epoch, real.attempt, real.tries, pending, tuple((s.subtask, s.committed) for s in real.sinks))
