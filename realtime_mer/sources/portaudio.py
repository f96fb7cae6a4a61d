"""What PortAudio's streams need: to be watched, and those that play also to be let go of where PortAudio is stuck."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from types import ModuleType
from typing import Any

# How often a keeper looks at its stream.
LOOK_S = 0.1
# A first callback may take this long: a sound server has to wake its card up, and the monitor of an idle PulseAudio
# sink gives nothing for up to two seconds.
_FIRST_CALLBACK_S = 4.0
_CLOSE_TIMEOUT_S = 0.7


class CallbackWatch:
    """Tells when a stream's callback has not been called for too long; begins with the stream."""

    def __init__(self) -> None:
        self._n_callbacks = 0
        self._waited_s = 0.0
        self._looked_s = time.monotonic()

    def is_stalled(self, n_callbacks: int, stalled_s: float) -> bool:
        """n_callbacks: how often it has been called so far. stalled_s: how long is too long, once it has been called.

        To be asked every LOOK_S.
        """
        now_s = time.monotonic()
        # No more than the asking thread's own turn: where the whole process was suspended, the callback was too.
        self._waited_s += min(now_s - self._looked_s, 2.0 * LOOK_S)
        self._looked_s = now_s
        if n_callbacks != self._n_callbacks:
            self._n_callbacks, self._waited_s = n_callbacks, 0.0
        return self._waited_s > (stalled_s if n_callbacks else max(stalled_s, _FIRST_CALLBACK_S))


def shut(stream: Any) -> None:
    """Ends a stream of sounddevice's at once. A device that is gone may refuse even that."""
    with contextlib.suppress(Exception):
        stream.abort()
    with contextlib.suppress(Exception):
        stream.close()


def end_keeper(keeper: threading.Thread, sounddevice: ModuleType | None) -> None:
    """Waits for a thread that has been told to end; not for long, and not at the end of the process either.

    sounddevice: the module, once the keeper has it.
    """
    if keeper.ident is not None:
        keeper.join(_CLOSE_TIMEOUT_S)
    if keeper.is_alive() and sounddevice is not None:
        # It is stuck inside PortAudio, where its own good-bye at the end of the process would be stuck too.
        atexit.unregister(sounddevice._exit_handler)
