"""The machine's sound output: plays sound that is all there already, and tells how far it has got."""

from __future__ import annotations

import threading
import time
from types import ModuleType
from typing import Any

import soxr

from realtime_mer.demo.instruments import RATE_HZ
from realtime_mer.sources.devices import DeviceError, portaudio
from realtime_mer.sources.portaudio import LOOK_S, CallbackWatch, end_keeper, shut
from realtime_mer.types import FloatArray

_N_CHANNELS = 2
# Enough for a thread that holds Python's lock now and then, and far less than the half second between predictions.
_LATENCY_S = 0.1
# Silence before the sound: the first moments after a start are lost on the way in some sound systems.
_LEAD_IN_S = 0.1
_OPEN_TIMEOUT_S = 5.0
# For how long the callback may not be called: an idle virtual sink of PulseAudio's rests for 1.8 s after its first.
_STALLED_S = 3.0


class SoundOutput:
    """PortAudio's default output, playing one stretch of stereo sound, once or for ever.

    A keeper thread opens, watches and closes it: where a sound server hangs, only that thread does. An output that has
    gone away stays away, and `fault` says so.
    """

    def __init__(self) -> None:
        self._samples: FloatArray | None = None
        self._loop = False
        self._n_samples = 0
        self._lead_in_samples = 0
        self._rate_hz = RATE_HZ
        self._paused = False
        # How many samples the output has been given, and when.
        self._played = (0, 0.0)
        self._n_callbacks = 0
        self._finished = False
        self._sounddevice: ModuleType
        self._failure: DeviceError | None = None
        self._fault: str | None = None
        self._settled = threading.Event()
        self._begun = threading.Event()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="sound output", daemon=True)

    @property
    def fault(self) -> str | None:
        """Why it has ceased to play, in a sentence; None while it plays."""
        return self._fault

    def open(self) -> None:
        """Raises DeviceError, in a sentence, where there is no output, or none that answers within five seconds."""
        self._keeper.start()
        if not self._settled.wait(_OPEN_TIMEOUT_S):
            self.close()
            raise DeviceError("The sound output does not open: the sound system does not answer.")
        if self._failure is not None:
            raise self._failure

    def play(self, samples: FloatArray, *, loop: bool) -> None:
        """Begins to play. samples: float32, shape (n_samples, 2), at RATE_HZ. loop: for ever. Called once."""
        self._loop, self._n_samples = loop, len(samples)
        self._samples = samples if self._rate_hz == RATE_HZ else soxr.resample(samples, RATE_HZ, self._rate_hz)
        self._lead_in_samples = round(_LEAD_IN_S * self._rate_hz)
        self._begun.set()

    def played(self) -> tuple[int, float]:
        """How many of the samples, at RATE_HZ, the output has taken, and when by the monotonic clock it took the last.

        They are heard one latency of the output later.
        """
        samples = self._samples
        if samples is None:
            return 0, 0.0
        position, at_s = self._played
        # By laps: a resampled lap is no whole number of the piece's samples, and yet none may be left over.
        laps, rest = divmod(position, len(samples))
        return laps * self._n_samples + rest * self._n_samples // len(samples), at_s

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def close(self) -> None:
        """Ends the sound at once. Harmless when called twice, or before `open`."""
        self._closing.set()
        self._begun.set()
        end_keeper(self._keeper, getattr(self, "_sounddevice", None))

    def _callback(self, out: FloatArray, n_samples: int, _time: object, _status: object) -> None:
        """PortAudio's: copies and counts."""
        self._n_callbacks += 1
        samples = self._samples
        filled = min(self._lead_in_samples, n_samples)
        self._lead_in_samples -= filled
        out[:filled] = 0.0
        position = self._played[0]
        while samples is not None and not self._paused and filled < n_samples:
            at = position % len(samples) if self._loop else min(position, len(samples))
            n_copied = min(n_samples - filled, len(samples) - at)
            if n_copied == 0:
                break
            out[filled : filled + n_copied] = samples[at : at + n_copied]
            position += n_copied
            filled += n_copied
        out[filled:] = 0.0
        if position != self._played[0]:
            self._played = (position, time.monotonic())

    def _on_finished(self) -> None:
        """PortAudio's, when the stream has ended, by itself or by us."""
        self._finished = True

    def _keep(self) -> None:
        """The keeper thread."""
        try:
            stream = self._open_stream()
        except DeviceError as error:
            self._failure = error
            return
        finally:
            self._settled.set()
        # Not before there is something to play: meanwhile torch is imported, and Python's lock held for long.
        self._begun.wait()
        if not self._closing.is_set():
            self._fault = self._start(stream) or self._watch()
        shut(stream)

    def _open_stream(self) -> Any:
        sounddevice = self._sounddevice = portaudio()
        form = {"channels": _N_CHANNELS, "dtype": "float32"}
        try:
            device = sounddevice.query_devices(kind="output")
        # ValueError: of another kind than asked for.
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError("There is no sound output.") from error
        try:
            sounddevice.check_output_settings(samplerate=RATE_HZ, **form)
        except sounddevice.PortAudioError:
            # Some host APIs take a card's own rate only.
            self._rate_hz = round(device["default_samplerate"])
        try:
            return sounddevice.OutputStream(
                samplerate=self._rate_hz,
                latency=_LATENCY_S,
                callback=self._callback,
                finished_callback=self._on_finished,
                **form,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(f"The sound output {device['name']!r} cannot be opened: {error}.") from error

    def _start(self, stream: Any) -> str | None:
        """Returns why it does not start, where it does not."""
        try:
            stream.start()
        except self._sounddevice.PortAudioError as error:
            return f"The sound output does not start: {error}."
        return None

    def _watch(self) -> str | None:
        """Returns why the output counts as gone, once it does; None when it is being closed."""
        watch = CallbackWatch()
        while not self._closing.wait(LOOK_S):
            if watch.is_stalled(self._n_callbacks, _STALLED_S) or self._finished:
                return "The sound output has gone away."
        return None
