"""The sound card: a callback that copies and counts, a ring, and a keeper thread that finds a lost device again."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from realtime_mer.config import AudioSettings
from realtime_mer.devices import (
    DeviceError,
    InputDevice,
    find_again,
    find_input,
    is_gone,
    portaudio,
    pulse_source_chosen,
)
from realtime_mer.ring import BlockRing
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.status import SourceState
from realtime_mer.streams import LOOK_S, CallbackWatch, end_keeper, shut
from realtime_mer.types import FloatArray

_DEFAULT_BLOCK_S = 0.01
_DEFAULT_CHANNELS = 2
# For how long the callback may not be called before the device counts as gone.
_STALLED_S = 1.0
_STALLED_BLOCKS = 4
_SOURCE_CHECK_S = 2.0
_OPEN_TIMEOUT_S = 10.0
_BACKOFF_S = (0.1, 0.2, 0.4, 0.5)
# PortAudio's error codes (portaudio.h) that have a cure of their own.
_INVALID_CHANNELS, _INVALID_RATE, _UNAVAILABLE = -9998, -9997, -9985


@dataclass(slots=True)
class _Opened:
    """An open stream: what it is, and what its callback writes."""

    segment: int
    device: InputDevice
    rate_hz: int
    columns: list[int]
    ring: BlockRing
    block_samples: int
    stream: Any
    overflows: int = 0
    finished: bool = False

    def callback(self, samples: FloatArray, _n_samples: int, _time: object, status: Any) -> None:
        """PortAudio's: copies and counts."""
        self.ring.write(samples)
        if status.input_overflow:
            self.overflows += 1

    def on_finished(self) -> None:
        """PortAudio's, when the stream has ended, by itself or by us."""
        self.finished = True


class DeviceSource:
    """Sound from an input device, in real time, for as long as it takes.

    `start` opens the device, or raises DeviceError. From then on nothing raises: where the device goes away (unplugged,
    its server ended, its callback silent for a second) `state` is LOST, and a keeper thread opens it again, by name
    and host API, as soon as it is back. What comes then is a new segment; `state` is RUNNING once its first sound is
    read.
    """

    def __init__(self, settings: AudioSettings) -> None:
        self._settings = settings
        self._sounddevice: ModuleType
        self._device: InputDevice
        self._segments: deque[_Opened] = deque()
        self._current: _Opened | None = None
        self._n_segments = 0
        self._past_overflows = 0
        self.dropped_blocks = 0
        self.replaced_samples = 0
        # What is open, and what that means; changed together by the reader and the keeper.
        self._lock = threading.Lock()
        self.state = SourceState.OPENING
        self.detail = ""
        self.name = settings.device
        self._failure: DeviceError | None = None
        self._settled = threading.Event()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="device keeper", daemon=True)

    @property
    def overflows(self) -> int:
        current = self._current
        return self._past_overflows + (current.overflows if current else 0)

    def start(self) -> None:
        """Opens the device. Raises DeviceError where that is impossible, or takes longer than ten seconds."""
        self._keeper.start()
        if not self._settled.wait(_OPEN_TIMEOUT_S):
            self.close()
            raise DeviceError(f"The input {self.name!r} does not open: the sound system does not answer. Restart it.")
        if self._failure is not None:
            raise self._failure

    def read(self) -> Capture | None:
        while self._segments:
            opened = self._segments[0]
            # Before the read: what is written between the two is then sure to be read.
            over = opened is not self._current
            heard = opened.ring.read()
            self.dropped_blocks += heard.dropped_blocks
            if len(heard.samples):
                samples, n_replaced = on_grid(heard.samples[:, opened.columns])
                self.replaced_samples += n_replaced
                self._note_sound(opened)
                dropped_samples = heard.dropped_blocks * opened.block_samples
                return Capture(samples, opened.rate_hz, opened.segment, dropped_samples, heard.captured_s)
            if not over:
                return None
            self._segments.popleft()
        return None

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        end_keeper(self._keeper, getattr(self, "_sounddevice", None))
        self.state = SourceState.ENDED

    def _keep(self) -> None:
        """The keeper thread: opens the device, watches it, and opens it again."""
        try:
            self._sounddevice = portaudio()
            self._open()
        except DeviceError as error:
            self._failure = error
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the device must hear of it
            self._failure = DeviceError(f"The input {self.name!r} cannot be opened: {type(error).__name__}: {error}.")
            return
        finally:
            self._settled.set()
        while (opened := self._current) is not None:
            reason = self._watch(opened)
            self._past_overflows += opened.overflows
            # Together, so that whoever sees the state gets what is left of this segment, and then no more of it.
            with self._lock:
                self._current = None
                if reason is not None:
                    self.state, self.detail = SourceState.LOST, reason
            shut(opened.stream)
            if reason is not None:
                self._reopen()

    def _open(self) -> None:
        if self._n_segments == 0:
            device = find_input(self._settings.device, self._settings.host_api)
        else:
            # The default too: while a sound server is away, PortAudio's default is some card that nobody chose.
            device = find_again(self._device)
        opened = open_stream(self._sounddevice, device, self._settings, self._n_segments)
        self._n_segments += 1
        self._device, self.name = device, device.name
        with self._lock:
            # In this order: the reader lets go of an empty segment that is not the current one.
            self._current = opened
            self._segments.append(opened)

    def _watch(self, opened: _Opened) -> str | None:
        """Returns why the device counts as lost, once it does; None when this source is being closed."""
        # With a long buffer the sound comes in bursts.
        block_s, buffer_s = opened.block_samples / opened.rate_hz, float(opened.stream.latency)
        stalled_s = max(_STALLED_S, _STALLED_BLOCKS * block_s, 2.0 * buffer_s)
        watch = CallbackWatch()
        checked_s = time.monotonic()
        while not self._closing.wait(LOOK_S):
            stalled = watch.is_stalled(opened.ring.written_blocks, stalled_s)
            if opened.finished:
                return "The sound system closed this input. Waiting for its return."
            if stalled:
                return "It delivers no data any more. Waiting for its return."
            if opened.device.pulse_source and time.monotonic() - checked_s > _SOURCE_CHECK_S:
                checked_s = time.monotonic()
                # The server would move the stream to another source, and nobody would notice.
                if is_gone(opened.device.pulse_source):
                    return "The sound server no longer has it. Waiting for its return."
        return None

    def _reopen(self) -> None:
        """Tries until the device is open again, or this source is being closed."""
        attempt = 0
        while not self._closing.wait(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]):
            attempt += 1
            try:
                self._look_for_devices_again()
                self._open()
            except DeviceError as error:
                self.detail = str(error).partition("\n")[0]
            except Exception as error:  # noqa: BLE001 - a night's run must not end with a strange answer of a driver
                self.detail = f"It cannot be opened yet: {type(error).__name__}: {error}."
            else:
                return

    def _look_for_devices_again(self) -> None:
        """PortAudio lists devices when it starts, and at no other time; sounddevice offers no public way to that."""
        try:
            # A start that failed left nothing to end.
            if self._sounddevice._initialized:
                self._sounddevice._terminate()
            self._sounddevice._initialize()
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(f"PortAudio does not start: {error}") from error

    def _note_sound(self, opened: _Opened) -> None:
        if self.state is not SourceState.RUNNING:
            with self._lock:
                if opened is self._current:
                    self.state, self.detail = SourceState.RUNNING, ""


def open_stream(sounddevice: ModuleType, device: InputDevice, settings: AudioSettings, segment: int) -> _Opened:
    """Opens the device and starts it. Raises DeviceError, in a sentence with the cure."""
    rate_hz = settings.rate_hz or device.rate_hz
    channels = settings.channels or tuple(range(1, min(device.n_channels, _DEFAULT_CHANNELS) + 1))
    n_channels = max(device.n_channels if device.remixes else 1, *channels)
    if device.remixes and n_channels > device.n_channels:
        raise DeviceError(_too_few_channels(device, n_channels))
    block_samples = settings.block_samples or max(round(rate_hz * _DEFAULT_BLOCK_S), 1)
    n_blocks = max(math.ceil(settings.buffer_s * rate_hz / block_samples), 2)
    ring = BlockRing(n_blocks, block_samples, n_channels)
    opened = _Opened(segment, device, rate_hz, [channel - 1 for channel in channels], ring, block_samples, None)
    try:
        with pulse_source_chosen(device.pulse_source):
            opened.stream = sounddevice.InputStream(
                device=device.index,
                channels=n_channels,
                samplerate=rate_hz,
                blocksize=block_samples,
                latency=settings.latency,
                dtype="float32",
                callback=opened.callback,
                finished_callback=opened.on_finished,
            )
            opened.stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        if opened.stream is not None:
            opened.stream.close()
        raise DeviceError(_why_not(error, device, n_channels, rate_hz)) from error
    return opened


def _why_not(error: Exception, device: InputDevice, n_channels: int, rate_hz: int) -> str:
    code = error.args[1] if len(error.args) > 1 else None
    name = f"The input {device.name!r}"
    if code == _UNAVAILABLE:
        return (
            f"{name} is in use by another program, or gone. Close that program, or choose another input: if it is the "
            "sound server that holds it, the one that `realtime-mer devices` lists under PulseAudio."
        )
    if code == _INVALID_CHANNELS:
        return _too_few_channels(device, n_channels)
    if code == _INVALID_RATE:
        return f"{name} does not run at {rate_hz} Hz; its own rate is {device.rate_hz} Hz. Leave --rate away."
    if "permission" in str(error).casefold():
        return f"{name} cannot be opened: permission denied. Join the group audio, or allow microphone access."
    return f"{name} cannot be opened: {error}."


def _too_few_channels(device: InputDevice, n_channels: int) -> str:
    return (
        f"The input {device.name!r} has no {n_channels} channels; it has {device.n_channels}. "
        "Choose others with --channels."
    )
