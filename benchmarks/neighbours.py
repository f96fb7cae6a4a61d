"""realtime-mer with busy processes in its session, or busy threads in its own process.

    python -m benchmarks.neighbours NICENESS PROCESSES THREADS SECONDS [arguments of realtime-mer]

NICENESS: of realtime-mer; 0 for ordinary priority. PROCESSES: busy processes to start; THREADS: busy Python threads to
start in its own process. Both start after SECONDS.
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

# Ends with its parent process, even if that is killed.
_BUSY = """
import os, threading, time
time.sleep({after_s})
def spin():
    while os.getppid() == {parent}: sum(range(10_000))
for _ in range({n_threads}): threading.Thread(target=spin).start()
"""


@contextlib.contextmanager
def busy(n_processes: int, n_threads: int = 1, *, elsewhere: bool, after_s: float = 0.0) -> Iterator[None]:
    """Runs busy processes until the end of the block; they start after after_s.

    n_threads: Python threads of each. elsewhere: each in a session of its own, like programs started from a desktop.
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
