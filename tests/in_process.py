"""Work in this process instead of in workers; a module of its own, so that workers import nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from realtime_mer.workers import Outcome


def run_in_process(work: Callable[[Any], Any], items: Iterable[Any], _jobs: int) -> Iterator[tuple[Any, Outcome[Any]]]:
    """Instead of `run_in_workers`, whose processes take seconds to start."""
    for item in items:
        try:
            outcome = Outcome(work(item), None)
        except Exception as error:  # noqa: BLE001
            outcome = Outcome(None, error)
        yield item, outcome
