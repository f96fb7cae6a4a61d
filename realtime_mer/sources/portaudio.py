"""Helpers for PortAudio's streams: detecting a stalled one, and closing one even if PortAudio is stuck."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from types import ModuleType
from typing import Any

# How often a keeper checks its stream.
LOOK_S = 0.1
# The first callback may take this long: a sound server may have to wake its card, and the monitor of an idle
# PulseAudio sink gives nothing for up to two seconds.
_FIRST_CALLBACK_S = 4.0
_CLOSE_TIMEOUT_S = 0.7


class CallbackWatch:
    """Detects that a stream's callback has not been called for too long. Create it with the stream."""

    def __init__(self) -> None:
        self._n_callbacks = 0
        self._waited_s = 0.0
        self._looked_s = time.monotonic()

    def is_stalled(self, n_callbacks: int, stalled_s: float) -> bool:
        """n_callbacks: how often it has been called so far. stalled_s: the limit, after the first call.

        Call this every LOOK_S.
        """
        now_s = time.monotonic()
        # At most two turns: if the whole process was suspended, so was the callback.
        self._waited_s += min(now_s - self._looked_s, 2.0 * LOOK_S)
        self._looked_s = now_s
        if n_callbacks != self._n_callbacks:
            self._n_callbacks, self._waited_s = n_callbacks, 0.0
        return self._waited_s > (stalled_s if n_callbacks else max(stalled_s, _FIRST_CALLBACK_S))


def shut(stream: Any) -> None:
    """Ends a sounddevice stream at once, and ignores errors, as from a lost device."""
    with contextlib.suppress(Exception):
        stream.abort()
    with contextlib.suppress(Exception):
        stream.close()


def end_keeper(keeper: threading.Thread, sounddevice: ModuleType | None) -> None:
    """Waits for a thread that is ending, but not for long, and not at the end of the process either.

    sounddevice: the module, if the keeper has imported it.
    """
    if keeper.ident is not None:
        keeper.join(_CLOSE_TIMEOUT_S)
    if keeper.is_alive() and sounddevice is not None:
        # It is stuck inside PortAudio, where sounddevice's exit handler would get stuck too.
        atexit.unregister(sounddevice._exit_handler)
