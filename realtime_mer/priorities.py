"""How urgent the program is beside others: on Linux, nicer to itself than to them, where the system allows that."""

from __future__ import annotations

import os
import sys

# Just behind a sound server's (PulseAudio: -11). Never real-time scheduling: a thread of that kind that goes astray
# stops a machine, and predictions come no earlier with it (results/headroom.md).
NICENESS = -10


def raise_priority() -> bool:
    """Lets the calling thread, and whatever it starts from now on, go before programs of ordinary priority.

    Returns whether it does so now. It may not where the system does not allow it (Linux: RLIMIT_NICE), and on other
    systems nothing is changed. For the main thread, before it starts others: one of them alone would have to wait for
    Python's lock while another, less urgent, holds it and is kept from running.
    """
    if sys.platform != "linux":
        return False
    try:
        # Of Linux's threads, each has its own; one that has more already keeps it.
        if os.getpriority(os.PRIO_PROCESS, 0) > NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except OSError:
        return False
    return True
