"""The rules that a simulated job keeps; each can be switched off, and then the simulation has to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """All true in the product. The name of a rule says what is done when it is true."""

    manifest_before_commit: bool = True
    fence: bool = True
    read_ledger_after_fence: bool = True
    read_ledger: bool = True
    align_all_inputs: bool = True
    carry_pending: bool = True
    keep_rows_of_failed_tries: bool = True
    ignore_old_tries: bool = True
    snapshot_at_barrier: bool = True
    lost_race_stops: bool = True
    resolve_unknown_decisions: bool = True
    unknown_is_not_committed: bool = True
    unknown_is_not_failed: bool = True
    new_producer_after_unknown: bool = True
    fence_old_layouts: bool = True
    commit_in_order: bool = True
    commit_pending_before_reading: bool = True
    keep_first_manifests: bool = True
    keep_last_manifests: bool = True
    keep_files_of_open_epochs: bool = True
    keep_outboxes_of_pending: bool = True
