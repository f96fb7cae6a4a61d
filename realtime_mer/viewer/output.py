"""A take's sound on this computer's output, from any moment on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any

from realtime_mer.recording import RecordingError
from realtime_mer.sources.devices import DeviceError, portaudio
from realtime_mer.sources.portaudio import end_keeper
from realtime_mer.types import FloatArray
from realtime_mer.viewer.sound import N_CHANNELS

# As in demo/output.py.
_LATENCY_S = 0.1
_PIECE_S = 0.02
# An output that takes nothing for so long is given up, and so is one that does not open.
_STALLED_S = 3.0

Blocks = Callable[[float, int], Generator[FloatArray, None, None]]


class SoundPlayer:
    """Plays on PortAudio's default output; without one, it only says that nothing is heard.

    A thread opens and fills it: where a sound server hangs, only that thread does. It ends with `close`.
    blocks: the sound from a moment on, at a rate, as sound.stereo_blocks gives it. rate_hz: of the output.
    """

    def __init__(self, blocks: Blocks, rate_hz: int) -> None:
        self._blocks, self._rate_hz = blocks, rate_hz
        self._condition = threading.Condition()
        self._closing = False
        # From where to play, None is not at all; and how often that has changed.
        self._wanted_s: float | None = None
        self._n_wishes = 0
        # The moment that was given to the output last, and when, by the monotonic clock.
        self._given: tuple[float, float] | None = None
        self._asked_s = 0.0
        self._fault = ""
        self._sounddevice: ModuleType | None = None
        self._thread = threading.Thread(target=self._run, name="viewer sound", daemon=True)

    @property
    def fault(self) -> str:
        """Why nothing is heard any more, in a sentence; empty while all is well."""
        return self._fault

    def play(self, from_s: float) -> None:
        """From this moment on, at once."""
        with self._condition:
            self._wanted_s, self._given, self._asked_s = from_s, None, time.monotonic()
            self._n_wishes += 1
            if self._thread.ident is None and not self._fault and not self._closing:
                self._thread.start()
            self._condition.notify()

    def stop(self) -> None:
        """Silence, at once."""
        with self._condition:
            self._wanted_s = None
            self._n_wishes += 1
            self._condition.notify()

    def heard_s(self) -> float | None:
        """The moment that is heard now; None where nothing is to be heard, or can be."""
        with self._condition:
            if self._wanted_s is None or self._fault:
                return None
            now_s = time.monotonic()
            if now_s - (self._asked_s if self._given is None else self._given[1]) > _STALLED_S:
                self._fault = "The sound output does not answer."
                return None
            if self._given is None:
                return self._wanted_s
            given_s, at_s = self._given
            return max(given_s - _LATENCY_S + min(now_s - at_s, _LATENCY_S), self._wanted_s)

    def close(self) -> None:
        """Ends the sound, and the thread; harmless when called twice."""
        with self._condition:
            self._closing = True
            self._wanted_s = None
            self._n_wishes += 1
            self._condition.notify()
        end_keeper(self._thread, self._sounddevice)

    def _run(self) -> None:
        """The thread."""
        try:
            stream = self._open_stream()
        except DeviceError as error:
            self._fault = str(error)
            return
        try:
            while (wish := self._next_wish()) is not None:
                self._play(stream, *wish)
        except RecordingError as error:
            self._fault = str(error)
        # What PortAudio raises for an output that is gone.
        except Exception as error:  # noqa: BLE001
            self._fault = f"The sound output has gone away: {error}."
        finally:
            with contextlib.suppress(Exception):
                stream.abort()
            with contextlib.suppress(Exception):
                stream.close()

    def _open_stream(self) -> Any:
        sounddevice = self._sounddevice = portaudio()
        try:
            return sounddevice.OutputStream(
                samplerate=self._rate_hz, channels=N_CHANNELS, dtype="float32", latency=_LATENCY_S
            )
        # ValueError: there is no such device.
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(f"There is no sound output: {error}.") from error

    def _next_wish(self) -> tuple[int, float] | None:
        """Waits for one; its number, and from where to play. None once it is to close."""
        with self._condition:
            self._condition.wait_for(lambda: self._closing or self._wanted_s is not None)
            return None if self._closing or self._wanted_s is None else (self._n_wishes, self._wanted_s)

    def _play(self, stream: Any, number: int, from_s: float) -> None:
        stream.start()
        n_given = 0
        n_piece = round(_PIECE_S * self._rate_hz)
        with contextlib.closing(self._blocks(from_s, self._rate_hz)) as blocks:
            for block in blocks:
                for first in range(0, len(block), n_piece):
                    piece = block[first : first + n_piece]
                    if self._n_wishes != number:
                        stream.abort()
                        return
                    stream.write(piece)
                    n_given += len(piece)
                    with self._condition:
                        if self._n_wishes == number:
                            self._given = (from_s + n_given / self._rate_hz, time.monotonic())
        stream.stop()
        with self._condition:
            if self._n_wishes == number:
                self._wanted_s = None
