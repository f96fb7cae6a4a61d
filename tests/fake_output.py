"""A sound output in place of PortAudio's: it takes sound as much as the test lets it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from realtime_mer.sources import player
from realtime_mer.sources.devices import DeviceError
from realtime_mer.types import FloatArray

TIMEOUT_S = 30.0
# What the player writes at once, and how many writes of silence come first.
PIECE_S, N_LEAD_IN = 0.02, 5


class FakeOutput:
    """The module sounddevice and its stream. only_rate_hz: the one rate that it supports; refuses: what fails."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *, only_rate_hz: int | None = None, refuses: str = "") -> None:
        self.only_rate_hz, self.refuses = only_rate_hz, refuses
        self.rate_hz = 0
        self.taken: list[FloatArray] = []
        self.closed = self.gone = False
        self._room = 0
        self._changed = threading.Condition()

    def install(self, patch: pytest.MonkeyPatch) -> FakeOutput:
        def portaudio() -> FakeOutput:
            if self.refuses == "library":
                raise DeviceError("The library PortAudio cannot be used.")
            return self

        patch.setattr(player, "portaudio", portaudio)
        # The test may take its time between two blocks.
        patch.setattr(player, "_STALLED_S", 1000.0)
        # For a thread that is stuck at the end of the test.
        self._exit_handler = lambda: None
        return self

    def query_devices(self, kind: str) -> dict[str, Any]:
        if self.refuses == "query":
            raise self.PortAudioError(f"Error querying {kind} device -1")
        return {"name": "card", "default_samplerate": float(self.only_rate_hz or 44_100)}

    def check_output_settings(self, samplerate: int, **_form: object) -> None:
        if self.only_rate_hz not in (None, samplerate):
            raise self.PortAudioError("Invalid sample rate")

    def OutputStream(self, samplerate: int, **_settings: object) -> SimpleNamespace:  # noqa: N802 - sounddevice's name
        if self.refuses == "open":
            raise self.PortAudioError("Device unavailable")
        self.check_output_settings(samplerate)
        self.rate_hz = samplerate

        def nothing() -> None:
            pass

        return SimpleNamespace(start=nothing, stop=nothing, abort=nothing, write=self._write, close=self._close)

    def take(self, n_writes: int) -> None:
        """Takes this many writes more, and returns once it has them."""
        with self._changed:
            expected = len(self.taken) + n_writes
            self._room = n_writes
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: len(self.taken) >= expected, TIMEOUT_S), "nothing is written"

    def take_all(self) -> None:
        """Takes everything from now on."""
        with self._changed:
            self._room = 1_000_000
            self._changed.notify_all()

    def unplug(self) -> None:
        with self._changed:
            self.gone = True
            self._changed.notify_all()

    @property
    def sound(self) -> FloatArray:
        """Everything that was taken after the first lead-in."""
        return np.concatenate([np.zeros((0, 2), dtype=np.float32), *self.taken[N_LEAD_IN:]])

    def _write(self, samples: FloatArray) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._room > 0 or self.gone)
            if self.gone:
                raise self.PortAudioError("it was unplugged")
            self._room -= 1
            self.taken.append(samples.copy())
            self._changed.notify_all()

    def _close(self) -> None:
        self.closed = True
