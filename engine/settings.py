"""The settings of one run, after every layer (command line, environment, file, run, job) has been merged."""

from __future__ import annotations

from dataclasses import dataclass

EXACTLY_ONCE = "exactly-once"
AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True)
class Settings:
    """Everything that a run can be told. Durations in seconds, sizes in bytes."""

    storage: str = "./.tidegate"
    workers: int = 1
    checkpoint_interval_s: float = 1.0
    min_pause_s: float = 0.0
    checkpoint_timeout_s: float = 60.0
    tolerate_failed_checkpoints: int = 10
    delivery: str = EXACTLY_ONCE
    retain: int = 5
    restarts: int = 10
    restart_backoff_s: float = 0.5
    restart_backoff_max_s: float = 30.0
    until_end: bool = False
    takeover: bool = False
    worker_timeout_s: float = 30.0
    stop_timeout_s: float = 60.0
    outbox_bytes_max: int = 256 * 1024 * 1024
    exchange_bytes_max: int = 32 * 1024 * 1024
    batch_rows_max: int = 65_536
    json_logs: bool = False
