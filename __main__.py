"""The command line (`python -m tidegate`), and the entry of worker processes, which need none of it."""

from __future__ import annotations

import os
import sys

WORKER_COMMAND = "_worker"


def main() -> int:
    """Run a worker when asked for one, else the command line; return the exit code."""
    if sys.argv[1:2] == [WORKER_COMMAND]:
        import tidegate  # noqa: F401, PLC0415 (installs the runtime)

        from .engine.worker_process import run_worker  # noqa: PLC0415 (the command line does not need it)

        code = run_worker(int(sys.argv[2]), int(sys.argv[3]))
        sys.stdout.flush()
        # Client libraries may keep threads that hold an interpreter back; everything durable is durable by now.
        os._exit(code)
    from .cli import main as command_line  # noqa: PLC0415 (workers do not need it)

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
