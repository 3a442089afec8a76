"""Runs the benchmarks on a real Kafka broker that it starts itself, and prints a table of ratios.

    python -m benchmarks.run [--small 500000] [--large 2000000] [--repeat 1] [--json FILE]

Every program reads the same topics from the beginning and writes with a commit each second; its output is compared
with a Polars computation. Cost is CPU microseconds of the process tree (broker not counted) per input record, from the
difference of two sizes, so that start-up does not count. Machines are shared: quote the ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.services.kafka import KafkaBroker
from tests.services.topics import Topics, read_topic

from . import inputs, measure

HERE = Path(__file__).parent
PROGRAMS = {
    ("map", "hand-written loop"): [sys.executable, str(HERE / "loops" / "map_loop.py")],
    ("map", "tidegate, 1 worker"): [sys.executable, "-m", "tidegate", "run", str(HERE / "jobs" / "map_job.py")],
    ("window", "hand-written loop"): [sys.executable, str(HERE / "loops" / "window_loop.py")],
    ("window", "tidegate, 1 worker"): [sys.executable, "-m", "tidegate", "run", str(HERE / "jobs" / "window_job.py")],
}


def main() -> int:
    """Run everything; exit code 1 if an output was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=500_000)
    parser.add_argument("--large", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the cheapest counts")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = KafkaBroker(Path(folder) / "kafka")
        broker.start()
        try:
            results = run_all(broker, Path(folder), (options.small, options.large), options.repeat)
        finally:
            broker.kill()
    show(results, options.large - options.small)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0 if all(result["output"] == "exact" for result in results) else 1


def run_all(broker: KafkaBroker, folder: Path, sizes: tuple[int, int], repeat: int) -> list[dict[str, object]]:
    """Measure every program at both sizes; alternate them, so that a drifting machine is fair to all."""
    topics = Topics(broker.client)
    frames = {size: inputs.orders(size) for size in sizes}
    filled = {}
    for size, frame in frames.items():
        filled[size] = topics.create("bench-in", inputs.PARTITIONS)
        inputs.write(broker.bootstrap, filled[size], frame)
        inputs.write(broker.bootstrap, filled[size], inputs.closing(size), by_number=True)
    results: list[dict[str, object]] = []
    for number in range(repeat):
        for (work, program), command in PROGRAMS.items():
            for size, frame in frames.items():
                output = topics.create("bench-out", inputs.PARTITIONS)
                name = topics.name("bench-job")
                environment = {
                    "BROKER": broker.bootstrap,
                    "IN": filled[size],
                    "OUT": output,
                    "RUN": name,
                    "TIDEGATE_STORAGE": str(folder / "storage"),
                }
                wanted = inputs.expected(work, frame).height
                log = folder / f"{name}.log"
                run = measure.run(command, environment, broker.admin(), output, wanted, log)
                values = read_topic(broker.client, output).get_column("value")
                verdict = inputs.check(work, frame, values)
                result = {"work": work, "program": program, "records": size, "output": verdict, **asdict(run)}
                print(f"run {number + 1}: {result}", flush=True)
                results.append(result)
                topics.delete(output)
    return results


def show(results: list[dict[str, object]], more: int) -> None:
    """Print cost per record and ratios."""
    table = Table(title="CPU per input record, start-up not counted")
    for heading in ("work", "program", "us per record", "ratio to the loop", "records/s", "first output s", "output"):
        table.add_column(heading)
    cost: dict[tuple[str, str], float] = {}
    for work, program in PROGRAMS:
        own = [r for r in results if (r["work"], r["program"]) == (work, program)]
        small, large = min(int(str(r["records"])) for r in own), max(int(str(r["records"])) for r in own)
        best = {n: min(float(str(r["cpu_s"])) for r in own if r["records"] == n) for n in (small, large)}
        wall = {n: min(float(str(r["wall_s"])) for r in own if r["records"] == n) for n in (small, large)}
        cost[work, program] = (best[large] - best[small]) / more * 1e6
        ratio = cost[work, program] / cost[work, "hand-written loop"]
        rate = more / max(wall[large] - wall[small], 1e-9)
        first = min(float(str(r["first_s"])) for r in own)
        verdict = "exact" if all(r["output"] == "exact" for r in own) else "WRONG"
        table.add_row(
            work, program, f"{cost[work, program]:.2f}", f"{ratio:.2f}", f"{rate:,.0f}", f"{first:.1f}", verdict
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
