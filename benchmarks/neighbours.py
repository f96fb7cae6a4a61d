"""realtime-mer itself, with busy neighbours of its own session, or busy threads of its own process.

    python -m benchmarks.neighbours NICENESS PROCESSES THREADS SECONDS [arguments of realtime-mer]

NICENESS: what it gives itself; 0 leaves it as urgent as others. PROCESSES: how many busy processes it starts beside
itself; THREADS: how many busy Python threads inside itself. Both begin after so many seconds.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from realtime_mer import priorities
from realtime_mer.cli import main

# Ends with the process that started it, however that ends.
_BUSY = """
import os, threading, time
time.sleep({after_s})
def spin():
    while os.getppid() == {parent}: sum(range(10_000))
for _ in range({n_threads}): threading.Thread(target=spin).start()
"""


@contextlib.contextmanager
def busy(n_processes: int, n_threads: int = 1, *, elsewhere: bool, after_s: float = 0.0) -> Iterator[None]:
    """So many busy processes until the end of the block, which begin after so many seconds.

    n_threads: of each, in Python. elsewhere: each has a session of its own, as programs started from a desktop have.
    """
    code = _BUSY.format(after_s=after_s, parent=os.getpid(), n_threads=n_threads)
    with contextlib.ExitStack() as started:
        for _ in range(n_processes):
            process = subprocess.Popen([sys.executable, "-c", code], start_new_session=elsewhere)
            started.callback(process.wait)
            started.callback(process.kill)
        yield


def _spin(after_s: float) -> None:
    time.sleep(after_s)
    while True:
        sum(range(10_000))


if __name__ == "__main__":
    niceness, n_busy, n_spinning = map(int, sys.argv[1:4])
    begin_after_s = float(sys.argv[4])
    priorities.NICENESS = niceness
    with busy(n_busy, elsewhere=False, after_s=begin_after_s):
        for _ in range(n_spinning):
            threading.Thread(target=_spin, args=(begin_after_s,), name="busy", daemon=True).start()
        sys.exit(main(sys.argv[5:]))
