"""Runs work on many items in worker processes; survives crashes, and ends at once at Ctrl-C."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# On Windows a wait without a time-out ignores Ctrl-C.
_WAIT_S = 1.0


def default_jobs() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_workers(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Calls `work` on every item in `jobs` processes; yields each item with its finished future, as they finish.

    work: can be pickled, from a module that can be imported. Its exceptions are in the future; if it kills its process,
        the future raises BrokenProcessPool. The items that were in progress then are tried again one at a time, to find
        the one that crashes; all others go on.

    The workers end when the generator is closed or raises (such as KeyboardInterrupt), and when this process dies. Use
    it with `contextlib.closing`, in a program that is safe to import (`if __name__ == "__main__":`).
    """
    waiting = deque(items)
    while waiting:
        in_progress: dict[Future[Result], Item] = {}
        with _worker_pool(min(jobs, len(waiting))) as pool, contextlib.suppress(BrokenProcessPool):
            while waiting or in_progress:
                # One more than the workers keeps them busy; more would only be more suspects after a crash.
                while waiting and len(in_progress) <= jobs:
                    in_progress[_submit(pool, work, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(in_progress, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        raise BrokenProcessPool
                    yield in_progress.pop(future), future
        for item in in_progress.values():
            with _worker_pool(1) as pool:
                future = _submit(pool, work, item)
                while not future.done():
                    wait([future], timeout=_WAIT_S)
            yield item, future


def _submit(pool: ProcessPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Submits with SIGINT blocked: workers are started here and inherit that until `_start_worker` ignores SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return pool.submit(work, item)
    held_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held_before)


@contextlib.contextmanager
def _worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end at once when the block raises, or when this process dies.

    Each worker reads from a pipe that only this process can write to, and ends when that is closed. (A plain executor
    would let workers finish their work, and go on after a killed parent.)
    """
    context = multiprocessing.get_context("spawn")
    lifeline, held_end = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(jobs, context, _start_worker, (lifeline,))
    try:
        yield executor
    except BaseException:
        held_end.close()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        held_end.close()
        lifeline.close()


def _start_worker(lifeline: Connection[Any, Any]) -> None:
    # Ctrl-C reaches every process of a terminal, but only the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()


def _end_with(lifeline: Connection[Any, Any]) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
