"""Work on many items in worker processes, one per core, that survives crashes and ends at once with Ctrl-C."""

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

# On Windows a wait without end does not hear Ctrl-C.
_WAIT_S = 1.0


def default_jobs() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_workers(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Calls `work` on every item in `jobs` processes; yields each item with its finished future, as they finish.

    work: anything that can be pickled, from a module that can be imported. What it raises is in the future; where it
        kills its process the future says BrokenProcessPool, and the other items go on: all that were under way with it
        are suspects, and each is tried again alone.

    The workers are gone when the generator is closed or raises (KeyboardInterrupt among others), and when this process
    dies. Use `contextlib.closing`, and a program that is safe to import (`if __name__ == "__main__":`).
    """
    waiting = deque(items)
    while waiting:
        under_way: dict[Future[Result], Item] = {}
        with _worker_pool(min(jobs, len(waiting))) as pool, contextlib.suppress(BrokenProcessPool):
            while waiting or under_way:
                # One more than there are workers keeps them busy; more would only be more suspects.
                while waiting and len(under_way) <= jobs:
                    under_way[_submit(pool, work, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(under_way, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        raise BrokenProcessPool
                    yield under_way.pop(future), future
        suspects = deque(under_way.values())
        while suspects:
            with _worker_pool(1) as pool:
                alive = True
                while suspects and alive:
                    item = suspects.popleft()
                    future = _submit(pool, work, item)
                    while not future.done():
                        wait([future], timeout=_WAIT_S)
                    alive = not isinstance(future.exception(), BrokenProcessPool)
                    yield item, future


def _submit(pool: ProcessPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Submits with Ctrl-C held back, for this is where the pool starts its workers.

    They inherit that, and so do not hear of Ctrl-C even before `_start_worker` can see to it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return pool.submit(work, item)
    held_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held_before)


@contextlib.contextmanager
def _worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end at once when the block is left by an exception, or when this process dies.

    They hold one end of a pipe of which only this process holds the other: when that closes, for whatever reason, the
    reading end says so. (An executor alone would let them finish their work, and after a killed parent go on.)
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
    # Ctrl-C reaches every process of a terminal; what it means here is for the main process to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()


def _end_with(lifeline: Connection[Any, Any]) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
