"""Measures the cost of the live command (start-up, latency, CPU, OSC) and of `predict`, and writes results/cost.md."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks import cpu, latency, osc, predict_speed, startup
from benchmarks.common import ROOT, machine, options, page, report


def measure(music: Path, output: Path) -> str:
    """Measures everything, writes the report, and returns its sections."""
    head = page("# What it costs", f"`python -m benchmarks.all`, {time.strftime('%Y-%m-%d')}. {machine()}")
    sections = "\n\n".join(benchmark.measure(music) for benchmark in (startup, latency, cpu, osc, predict_speed))
    output.write_text(f"{head}\n\n{sections}\n", encoding="utf-8")
    return sections


def main() -> int:
    """`python -m benchmarks.all`."""
    parser = options(__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "cost.md", help="the report")
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.output))


if __name__ == "__main__":
    sys.exit(main())
