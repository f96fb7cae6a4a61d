"""Runs work on many items in worker processes; survives crashes, and ends at once at Ctrl-C."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

# On Windows a wait without a time-out ignores Ctrl-C.
_WAIT_S = 1.0


class WorkerCrashedError(Exception):
    """The work on an item ended its process."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """The result of the work on an item, or the exception that it raised."""

    value: Result | None
    error: BaseException | None

    def result(self) -> Result:
        """The result. Raises the work's exception, or WorkerCrashedError."""
        if self.error is not None:
            raise self.error
        return cast(Result, self.value)


def default_jobs() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_workers(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[tuple[Item, Outcome[Result]], None, None]:
    """Calls `work` on every item in `jobs` processes; yields each item with its outcome, as they finish.

    work: can be pickled, from a module that can be imported; its results and exceptions can be pickled too. If it kills
        its process, that item's outcome is WorkerCrashedError, and a new process does the others.

    The workers are killed when the generator ends, is closed or raises (such as KeyboardInterrupt), and end when this
    process dies. Use it with `contextlib.closing`, in a program that is safe to import (`if __name__ == "__main__":`).
    An executor of concurrent.futures would be ended by threads and locks of its own, which once hung at Ctrl-C.
    """
    waiting = deque(items)
    idle: list[_Worker] = []
    busy: dict[Connection[Any, Any], tuple[_Worker, Item]] = {}
    with contextlib.ExitStack() as workers:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = idle.pop() if idle else workers.enter_context(_worker(work))
                item = waiting.popleft()
                # If it has died meanwhile, its connection is at its end below.
                with contextlib.suppress(OSError):
                    worker.connection.send(item)
                busy[worker.connection] = worker, item
            for connection in wait(list(busy), timeout=_WAIT_S):
                worker, item = busy.pop(cast("Connection[Any, Any]", connection))
                try:
                    outcome: Outcome[Result] = worker.connection.recv()
                    idle.append(worker)
                except (EOFError, OSError):
                    outcome = Outcome(None, WorkerCrashedError())
                yield item, outcome


@dataclass(frozen=True, eq=False, slots=True)
class _Worker:
    """connection: items in, outcomes out."""

    process: BaseProcess
    connection: Connection[Any, Any]


@contextlib.contextmanager
def _worker(work: Callable[[Any], Any]) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    connection, its_end = context.Pipe()
    process = context.Process(target=_work_until_killed, args=(work, its_end), daemon=True)
    with _sigint_blocked():
        process.start()
    try:
        its_end.close()
        yield _Worker(process, connection)
    finally:
        process.kill()
        process.join()
        connection.close()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A process that is started inside inherits this until it ignores SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    held_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held_before)


def _work_until_killed(work: Callable[[Any], Any], connection: Connection[Any, Any]) -> None:
    # Ctrl-C reaches every process of a terminal, but only the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, items), name="items", daemon=True).start()
    while True:
        item = items.get()
        try:
            outcome = Outcome(work(item), None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller handles it
            outcome = Outcome(None, error)
        connection.send(outcome)


def _receive(connection: Connection[Any, Any], items: queue.SimpleQueue[Any]) -> None:
    """Puts what arrives into the queue. Ends the process, in the middle of its work, when the main process has died."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            items.put(connection.recv())
    os._exit(1)
