"""Plays stereo sound on this machine's output: the built-in piece, and the sound of recordings and files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import soxr

from realtime_mer.errors import RealtimeMerError
from realtime_mer.sources.devices import DeviceError, portaudio
from realtime_mer.sources.portaudio import CallbackWatch, end_keeper, shut
from realtime_mer.types import FloatArray

N_CHANNELS = 2
# Enough for another thread that holds Python's lock now and then, and far less than the 0.5 s between predictions.
_LATENCY_S = 0.1
# Silence after each start: some sound systems lose the first moments.
_LEAD_IN_S = 0.1
_PIECE_S = 0.02
_OPEN_TIMEOUT_S = 5.0
# An idle virtual sink of PulseAudio takes nothing for 1.8 s after its first block.
_STALLED_S = 3.0

# The sound from a moment on, in seconds: float32, shape (n, 2).
Blocks = Callable[[float], Generator[FloatArray, None, None]]


class _Stretch:
    """One stretch of sound. given: up to which moment the output has it, and since when by the monotonic clock."""

    def __init__(self, from_s: float) -> None:
        self.from_s = from_s
        self.given = (from_s, time.monotonic())
        self.ended = False
        self.watch = CallbackWatch()
        self.n_writes = 0


class SoundPlayer:
    """Plays on PortAudio's default output, from any moment on.

    A thread opens and fills the output, so if a sound server hangs, only that thread does. An output that has gone away
    stays away, and `fault` says so. All methods may be called by any thread.

    blocks: gives the sound from a moment on, at rate_hz; closed when it is no longer needed. An output that does not
    support this rate plays at its own rate.
    """

    def __init__(self, blocks: Blocks, rate_hz: int) -> None:
        self._blocks, self._rate_hz, self._output_rate_hz = blocks, rate_hz, rate_hz
        self._condition = threading.Condition()
        self._stretch: _Stretch | None = None
        self._paused = self._closing = False
        self._opened = threading.Event()
        self._fault = ""
        self._sounddevice: ModuleType | None = None
        self._thread = threading.Thread(target=self._run, name="sound output", daemon=True)

    @property
    def fault(self) -> str:
        """Why it does not play any more, in a sentence; empty while it plays. Read it often: this detects a stall."""
        stretch = self._stretch
        if stretch is not None and not stretch.ended and stretch.watch.is_stalled(stretch.n_writes, _STALLED_S):
            self._fault = self._fault or "The sound output has gone away: it does not respond."
        return self._fault

    @property
    def given(self) -> tuple[float, float]:
        """Up to which moment the output has taken the sound, and when it took the last of it (time.monotonic()).

        It is heard one latency of the output later. (0, 0) if nothing is being played.
        """
        return (0.0, 0.0) if self._stretch is None else self._stretch.given

    def heard_s(self) -> float | None:
        """The moment that is heard now; None if nothing is being played, or nothing can be."""
        stretch = self._stretch
        if stretch is None or stretch.ended or self.fault:
            return None
        given_s, at_s = stretch.given
        return max(given_s - max(_LATENCY_S - (time.monotonic() - at_s), 0.0), stretch.from_s)

    def open(self) -> None:
        """Opens the output ahead of `play`. Raises DeviceError if there is none, or none that answers within 5 s."""
        self._thread.start()
        if not self._opened.wait(_OPEN_TIMEOUT_S):
            self._fault = "The sound output does not open: the sound system does not answer."
            self.close()
        if self._fault:
            raise DeviceError(self._fault)

    def play(self, from_s: float) -> None:
        """Plays from this moment on, at once. Opens the output if `open` has not."""
        self._begin(_Stretch(from_s))
        if self._thread.ident is None and not self._fault and not self._closing:
            self._thread.start()

    def stop(self) -> None:
        """Silence, at once."""
        self._begin(None)

    def pause(self) -> None:
        """Plays silence until `resume`, and then goes on where it was."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def close(self) -> None:
        """Ends the sound at once. Harmless when called twice, or before `open`."""
        self._closing = True
        self._begin(None)
        end_keeper(self._thread, self._sounddevice)

    def _begin(self, stretch: _Stretch | None) -> None:
        with self._condition:
            self._stretch = stretch
            self._condition.notify()

    def _run(self) -> None:
        """The thread."""
        try:
            stream = self._open_stream()
        except DeviceError as error:
            self._fault = str(error)
            return
        finally:
            self._opened.set()
        try:
            while (stretch := self._next_stretch()) is not None:
                self._play(stream, stretch)
        except RealtimeMerError as error:
            self._fault = str(error)
        except Exception as error:  # noqa: BLE001 - PortAudio raises various types for an output that is gone
            self._fault = f"The sound output has gone away: {error}."
        finally:
            shut(stream)

    def _open_stream(self) -> Any:
        sounddevice = self._sounddevice = portaudio()
        form = {"channels": N_CHANNELS, "dtype": "float32"}
        try:
            device = sounddevice.query_devices(kind="output")
        # ValueError: of another kind than asked for.
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError("There is no sound output.") from error
        try:
            sounddevice.check_output_settings(samplerate=self._rate_hz, **form)
        except sounddevice.PortAudioError:
            # Some host APIs only support the card's own rate.
            self._output_rate_hz = round(device["default_samplerate"])
        try:
            return sounddevice.OutputStream(samplerate=self._output_rate_hz, latency=_LATENCY_S, **form)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(f"The sound output {device['name']!r} cannot be opened: {error}.") from error

    def _next_stretch(self) -> _Stretch | None:
        """Waits for one; None when it is time to end."""
        with self._condition:
            self._condition.wait_for(lambda: self._closing or self._fault or self._is_due(self._stretch))
            return None if self._closing or self._fault else self._stretch

    def _is_due(self, stretch: _Stretch | None) -> bool:
        """Whether this one is to be played now."""
        return stretch is not None and stretch is self._stretch and not stretch.ended and not self._fault

    def _play(self, stream: Any, stretch: _Stretch) -> None:
        silence: FloatArray = np.zeros((round(_PIECE_S * self._output_rate_hz), N_CHANNELS), dtype=np.float32)

        def write(samples: FloatArray) -> None:
            if len(samples):
                stream.write(samples)
            stretch.n_writes += 1

        stream.start()
        for _ in range(round(_LEAD_IN_S / _PIECE_S)):
            write(silence)
        n_given = 0
        with contextlib.closing(self._blocks(stretch.from_s)) as blocks:
            for n_samples, samples in self._resampled(blocks):
                while self._paused and self._is_due(stretch):
                    write(silence)
                if not self._is_due(stretch):
                    stream.abort()
                    return
                write(samples)
                n_given += n_samples
                stretch.given = (stretch.from_s + n_given / self._rate_hz, time.monotonic())
        stream.stop()
        stretch.ended = True

    def _resampled(self, blocks: Iterator[FloatArray]) -> Iterator[tuple[int, FloatArray]]:
        """In small pieces at the output's rate, each with the number of samples at rate_hz that it stands for."""
        n_most = round(_PIECE_S * self._rate_hz)
        pieces = (block[first : first + n_most] for block in blocks for first in range(0, len(block), n_most))
        if self._output_rate_hz == self._rate_hz:
            yield from ((len(piece), piece) for piece in pieces)
            return
        resampler = soxr.ResampleStream(self._rate_hz, self._output_rate_hz, N_CHANNELS)
        for piece in pieces:
            yield len(piece), resampler.resample_chunk(piece)
        yield 0, resampler.resample_chunk(np.zeros((0, N_CHANNELS), dtype=np.float32), last=True)
