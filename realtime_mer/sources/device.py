"""The sound card: a callback that copies and counts, a ring, and a keeper thread that finds a lost device again, and
opens another one where that is asked for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

from realtime_mer.config import AudioSettings
from realtime_mer.devices import (
    DeviceError,
    InputDevice,
    choose,
    find_again,
    find_input,
    is_gone,
    list_inputs,
    portaudio,
    pulse_source_chosen,
)
from realtime_mer.ring import BlockRing
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.status import Answer, SourceState
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
_LIST_TIMEOUT_S = 10.0
# No input has so long a name.
_NAME_CHARACTERS = 200
# PortAudio's error codes (portaudio.h) that have a cure of their own.
_INVALID_CHANNELS, _INVALID_RATE, _UNAVAILABLE = -9998, -9997, -9985


class _PerhapsOursError(DeviceError):
    """A device that does not open for a reason that may lie in this process: it holds it itself under another name, or
    PortAudio's list is too old."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Somebody wants to listen to another input."""

    wanted: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Segment:
    """Sound without an interruption, on its way to the reader."""

    number: int
    rate_hz: int
    columns: list[int]
    block_samples: int
    ring: BlockRing


@dataclass(slots=True)
class _Opened:
    """An open stream: what it is, and what its callback writes.

    segment: where its sound goes; None while nobody listens. checked_s: when the sound server was last asked for it.
    """

    device: InputDevice
    rate_hz: int
    n_channels: int
    columns: list[int]
    block_samples: int
    n_blocks: int
    stream: Any = None
    segment: _Segment | None = None
    n_callbacks: int = 0
    overflows: int = 0
    finished: bool = False
    watch: CallbackWatch = field(default_factory=CallbackWatch)
    checked_s: float = field(default_factory=time.monotonic)

    def callback(self, samples: FloatArray, _n_samples: int, _time: object, status: Any) -> None:
        """PortAudio's: copies and counts."""
        self.n_callbacks += 1
        segment = self.segment
        if segment is not None:
            segment.ring.write(samples)
            if status.input_overflow:
                self.overflows += 1

    def on_finished(self) -> None:
        """PortAudio's, when the stream has ended, by itself or by us."""
        self.finished = True

    def begin(self, number: int) -> _Segment:
        """A segment of what comes from now on."""
        ring = BlockRing(self.n_blocks, self.block_samples, self.n_channels)
        self.segment = _Segment(number, self.rate_hz, self.columns, self.block_samples, ring)
        return self.segment

    def is_stalled(self) -> bool:
        """Whether it gives nothing; to be asked every LOOK_S."""
        # With a long buffer the sound comes in bursts.
        block_s, buffer_s = self.block_samples / self.rate_hz, float(self.stream.latency)
        return self.watch.is_stalled(self.n_callbacks, max(_STALLED_S, _STALLED_BLOCKS * block_s, 2.0 * buffer_s))


class DeviceSource:
    """Sound from an input device, in real time, for as long as it takes.

    `start` opens the device, or raises DeviceError. From then on nothing raises: where the device goes away (unplugged,
    its server ended, its callback silent for a second) `state` is LOST, and a keeper thread opens it again, by name
    and host API, as soon as it is back. What comes then is a new segment; `state` is RUNNING once its first sound is
    read.

    `pause`, `resume` and `choose` may be called by any thread, and do not wait for the device.
    """

    interrupted_by_pause = True

    def __init__(self, settings: AudioSettings) -> None:
        self._settings = settings
        self._sounddevice: ModuleType
        self._device: InputDevice
        # All of this is changed together, by the reader, the keeper and whoever asks for something.
        self._lock = threading.Lock()
        self._state = SourceState.OPENING
        self._paused = False
        self._current: _Opened | None = None
        self._segments: deque[_Segment] = deque()
        self._n_segments = 0
        self._past_overflows = 0
        self._request: _Request | None = None
        self.detail = ""
        self.name = settings.device
        # Only the reader changes these.
        self.dropped_blocks = 0
        self.replaced_samples = 0
        self._failure: DeviceError | None = None
        self._settled = threading.Event()
        self._closing = threading.Event()
        # Set for whatever the keeper should not sleep through.
        self._wake = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="device keeper", daemon=True)

    @property
    def state(self) -> SourceState:
        state = self._state
        resting = self._paused and state in (SourceState.OPENING, SourceState.RUNNING)
        return SourceState.PAUSED if resting else state

    @property
    def overflows(self) -> int:
        with self._lock:
            return self._past_overflows + (self._current.overflows if self._current else 0)

    def start(self) -> None:
        """Opens the device. Raises DeviceError where that is impossible, or takes longer than ten seconds."""
        self._keeper.start()
        if not self._settled.wait(_OPEN_TIMEOUT_S):
            self.close()
            raise DeviceError(f"The input {self.name!r} does not open: the sound system does not answer. Restart it.")
        if self._failure is not None:
            raise self._failure

    def read(self) -> Capture | None:
        with self._lock:
            current = self._current
            if self._state is SourceState.ENDED:
                return None
            if self._paused:
                if current is not None and current.n_callbacks:
                    self._become(SourceState.RUNNING, "")
                return None
            while self._segments:
                segment = self._segments[0]
                # Before the read: what is written between the two is then sure to be read.
                over = current is None or segment is not current.segment
                heard = segment.ring.read()
                self.dropped_blocks += heard.dropped_blocks
                if len(heard.samples):
                    if not over:
                        self._become(SourceState.RUNNING, "")
                    samples, n_replaced = on_grid(heard.samples[:, segment.columns])
                    self.replaced_samples += n_replaced
                    dropped_samples = heard.dropped_blocks * segment.block_samples
                    return Capture(samples, segment.rate_hz, segment.number, dropped_samples, heard.captured_s)
                if not over:
                    return None
                self._segments.popleft()
            return None

    def pause(self) -> None:
        """Nothing comes until `resume`, and what sounds until then is not kept, nor counted as lost.

        The device stays open, so that its loss is seen (`state` is LOST until it is back) and `resume` works at once.
        """
        with self._lock:
            if not self._paused:
                self._paused = True
                # What was not read yet goes too: after a long pause, nobody wants to hear it.
                self._segments.clear()
                if self._current is not None:
                    self._current.segment = None

    def resume(self) -> None:
        """What comes from now on is a new segment. Harmless when it is not paused."""
        with self._lock:
            if self._paused:
                self._paused = False
                if self._current is not None:
                    self._begin_segment(self._current)

    def choose(self, name: str, answer: Answer) -> None:
        """Listens to another input, as `--device` would take it; the other settings stay.

        The present input goes on until the other one gives sound, and where that does not come. Only where PortAudio
        has to be started again, as for a card that was plugged in after it started, does it rest for a moment.

        answer: called once, by this thread or the keeper's, which it must not keep, and must not raise anything: with
            the new input's name, or a sentence on why it is not heard. Only one can be asked for at a time.
        """
        with self._lock:
            refusal = ""
            if self._closing.is_set() or not self._keeper.is_alive():
                refusal = "There is no input open."
            elif self._request is not None:
                refusal = "Another input is being opened already."
            elif len(name) > _NAME_CHARACTERS:
                refusal = f"No input has a name of more than {_NAME_CHARACTERS} characters."
            else:
                self._request = _Request(name, answer)
        if refusal:
            answer(False, refusal)
        self._wake.set()

    def close(self) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self._wake.set()
        end_keeper(self._keeper, getattr(self, "_sounddevice", None))
        with self._lock:
            self._state = SourceState.ENDED
        self._answer(False, "The program ends.")

    def _keep(self) -> None:
        """The keeper thread: opens the device, watches it, opens it again, and opens another one."""
        try:
            self._sounddevice = portaudio()
            self._listen_to(self._open(find_input(self._settings.device, self._settings.host_api)))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the device must hear of it
            self._failure = _device_error(error, self.name)
            return
        finally:
            self._settled.set()
        attempt = 0
        while not self._closing.is_set():
            opened = self._current
            if opened is not None:
                attempt = 0
                self._watch(opened)
            else:
                self._rest(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
                attempt += 1
            request = self._request
            if request is not None and not self._closing.is_set():
                self._carry_out(request)
            # Even then: whoever asks again and again for what is not there must not keep the lost device away.
            if opened is None and self._current is None and not self._closing.is_set():
                self._reopen()
        if self._current is not None:
            self._let_go(self._current, self._state, self.detail)

    def _rest(self, at_most_s: float) -> bool:
        """Whether this source is being closed. Returns earlier where something is asked for."""
        self._wake.wait(at_most_s)
        self._wake.clear()
        return self._closing.is_set()

    def _open(self, device: InputDevice) -> _Opened:
        return open_stream(self._sounddevice, device, self._settings)

    def _open_heard(self, device: InputDevice) -> _Opened:
        """Opens it, and waits for its first sound. Raises DeviceError where none comes."""
        opened = self._open(device)
        while not opened.n_callbacks:
            if opened.finished or opened.is_stalled() or self._closing.wait(LOOK_S):
                shut(opened.stream)
                raise DeviceError(f"The input {device.name!r} opens, but delivers no data.")
        return opened

    def _listen_to(self, opened: _Opened) -> None:
        """From now on, and no longer to what is open."""
        with self._lock:
            before, self._current = self._current, opened
            if before is not None:
                self._past_overflows += before.overflows
            self._device, self.name = opened.device, opened.device.name
            if not self._paused:
                self._begin_segment(opened)
        if before is not None:
            shut(before.stream)

    def _let_go(self, opened: _Opened, state: SourceState, detail: str) -> None:
        # Together, so that whoever sees the state gets what is left of this segment, and then no more of it.
        with self._lock:
            self._past_overflows += opened.overflows
            self._current = None
            self._become(state, detail)
        shut(opened.stream)

    def _begin_segment(self, opened: _Opened) -> None:
        """The lock is held."""
        self._segments.append(opened.begin(self._n_segments))
        self._n_segments += 1

    def _become(self, state: SourceState, detail: str) -> None:
        """The lock is held."""
        # The end is final, even for a keeper that comes back from a sound system that had hung.
        if self._state is not SourceState.ENDED:
            self._state, self.detail = state, detail

    def _watch(self, opened: _Opened) -> None:
        """Returns once it is lost, and let go of; or another one is asked for, or this source is being closed."""
        while not self._rest(LOOK_S):
            reason = self._why_lost(opened)
            if reason is not None:
                self._let_go(opened, SourceState.LOST, f"{reason} Waiting for its return.")
            if reason is not None or self._request is not None:
                return

    def _why_lost(self, opened: _Opened) -> str | None:
        stalled = opened.is_stalled()
        if opened.finished:
            return "The sound system closed this input."
        if stalled:
            return "It delivers no data any more."
        if opened.device.pulse_source and time.monotonic() - opened.checked_s > _SOURCE_CHECK_S:
            opened.checked_s = time.monotonic()
            # The server would move the stream to another source, and nobody would notice.
            if is_gone(opened.device.pulse_source):
                return "The sound server no longer has it."
        return None

    def _reopen(self) -> None:
        """Tries once to open the device again; where that fails, it is lost."""
        try:
            self._look_for_devices_again()
            # The default too: while a sound server is away, PortAudio's default is some card that nobody chose.
            self._listen_to(self._open(find_again(self._device)))
        except Exception as error:  # noqa: BLE001 - a night's run must not end with a strange answer of a driver
            with self._lock:
                self._become(SourceState.LOST, _sentence(_device_error(error, self.name)))

    def _carry_out(self, request: _Request) -> None:
        try:
            present = self._current
            if present is None:
                self._look_for_devices_again()
                self._listen_to(self._open_heard(find_input(request.wanted, self._settings.host_api)))
            else:
                self._change(present, request.wanted)
        except Exception as error:  # noqa: BLE001 - as above
            self._answer(False, _sentence(_device_error(error, request.wanted)))
        else:
            self._answer(True, self.name)

    def _change(self, present: _Opened, wanted: str) -> None:
        """Listens to another input, or raises DeviceError, among others, and goes on with the present one."""
        # As another process finds them: PortAudio's list here is as old as its start, which would interrupt the sound.
        device = choose(_inputs_now(self._closing), wanted, self._settings.host_api)
        if _is_open(device, present):
            return
        if device in list_inputs():
            try:
                self._listen_to(self._open_heard(device))
            except _PerhapsOursError:
                # Where that one is the sound server's, no card is ours.
                if present.device.remixes:
                    raise
            else:
                return
        self._let_go(present, SourceState.OPENING, "")
        try:
            self._look_for_devices_again()
            self._listen_to(self._open_heard(find_again(device)))
        finally:
            if self._current is None and not self._closing.is_set():
                self._reopen()

    def _look_for_devices_again(self) -> None:
        """PortAudio lists devices when it starts, and at no other time; sounddevice offers no public way to that."""
        try:
            # A start that failed left nothing to end.
            if self._sounddevice._initialized:
                self._sounddevice._terminate()
            self._sounddevice._initialize()
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(f"PortAudio does not start: {error}") from error

    def _answer(self, done: bool, text: str) -> None:
        """To whoever asked for another input, if anybody did."""
        with self._lock:
            request, self._request = self._request, None
        if request is not None:
            request.answer(done, text)


def inputs_json() -> str:
    """This machine's inputs, for another process. Raises DeviceError without PortAudio."""
    return json.dumps([asdict(device) for device in list_inputs()])


def open_stream(sounddevice: ModuleType, device: InputDevice, settings: AudioSettings) -> _Opened:
    """Opens the device and starts it. Raises DeviceError, in a sentence with the cure."""
    rate_hz = settings.rate_hz or device.rate_hz
    channels = settings.channels or tuple(range(1, min(device.n_channels, _DEFAULT_CHANNELS) + 1))
    n_channels = max(device.n_channels if device.remixes else 1, *channels)
    if device.remixes and n_channels > device.n_channels:
        raise DeviceError(_too_few_channels(device, n_channels))
    block_samples = settings.block_samples or max(round(rate_hz * _DEFAULT_BLOCK_S), 1)
    n_blocks = max(math.ceil(settings.buffer_s * rate_hz / block_samples), 2)
    columns = [channel - 1 for channel in channels]
    opened = _Opened(device, rate_hz, n_channels, columns, block_samples, n_blocks)
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
        raise _why_not(error, device, n_channels, rate_hz) from error
    return opened


def _why_not(error: Exception, device: InputDevice, n_channels: int, rate_hz: int) -> DeviceError:
    code = error.args[1] if len(error.args) > 1 else None
    name = f"The input {device.name!r}"
    if code == _UNAVAILABLE:
        return _PerhapsOursError(
            f"{name} is in use by another program, or gone. Close that program, or choose another input: if it is the "
            "sound server that holds it, the one that `realtime-mer devices` lists under PulseAudio."
        )
    if code == _INVALID_CHANNELS:
        return DeviceError(_too_few_channels(device, n_channels))
    if code == _INVALID_RATE:
        return DeviceError(
            f"{name} does not run at {rate_hz} Hz; its own rate is {device.rate_hz} Hz. Leave --rate away."
        )
    if "permission" in str(error).casefold():
        return DeviceError(
            f"{name} cannot be opened: permission denied. Join the group audio, or allow microphone access."
        )
    return _PerhapsOursError(f"{name} cannot be opened: {error}.")


def _too_few_channels(device: InputDevice, n_channels: int) -> str:
    return (
        f"The input {device.name!r} has no {n_channels} channels; it has {device.n_channels}. "
        "Choose others with --channels."
    )


def _inputs_now(closing: threading.Event) -> list[InputDevice]:
    """What PortAudio lists when it starts now: in a process of its own. Raises DeviceError where that fails."""
    command = [sys.executable, "-P", "-c", f"from {__name__} import inputs_json; print(inputs_json())"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as lister:
        give_up_s = time.monotonic() + _LIST_TIMEOUT_S
        while True:
            try:
                listed, complaints = lister.communicate(timeout=LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if closing.is_set() or time.monotonic() > give_up_s:
                    lister.kill()
    if lister.returncode != 0:
        reason = complaints.decode(errors="replace").strip().rpartition("\n")[2]
        raise DeviceError(f"The inputs cannot be listed: {reason or 'the sound system does not answer.'}")
    # Before it, some sound systems say something of their own.
    return [InputDevice(**device) for device in json.loads(listed.splitlines()[-1])]


def _is_open(device: InputDevice, opened: _Opened) -> bool:
    # What leads to the sound server's default may lead to another source by now.
    stays = device.pulse_source is not None or not device.remixes
    return stays and _place(device) == _place(opened.device)


def _place(device: InputDevice) -> tuple[str, int, str, str | None]:
    return device.name, device.index, device.host_api, device.pulse_source


def _device_error(error: Exception, name: str) -> DeviceError:
    if isinstance(error, DeviceError):
        return error
    return DeviceError(f"The input {name!r} cannot be opened: {type(error).__name__}: {error}.")


def _sentence(error: DeviceError) -> str:
    """Without the list of all inputs."""
    return str(error).partition("\n")[0].removesuffix(" There are:")
