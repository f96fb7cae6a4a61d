"""The priority of the program: on Linux above that of other programs, if the system allows it."""

from __future__ import annotations

import os
import sys

# Just below a sound server's priority (PulseAudio: -11). Not real-time scheduling: one such thread in an endless loop
# blocks the machine, and predictions are not earlier with it (results/headroom.md).
NICENESS = -10


def raise_priority() -> bool:
    """Gives the calling thread, and the threads and processes that it starts later, a higher priority than normal.

    Returns whether they have it. The system may refuse (Linux: RLIMIT_NICE); other systems than Linux are left alone.
    Call it in the main thread before it starts others: a single thread would still wait for Python's lock while a
    thread with normal priority holds it.
    """
    if sys.platform != "linux":
        return False
    try:
        # On Linux this is the calling thread's own; a higher priority is kept.
        if os.getpriority(os.PRIO_PROCESS, 0) > NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except OSError:
        return False
    return True
