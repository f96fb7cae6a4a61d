"""The sound card: a process that captures, a thread that takes what it sends, and a keeper thread that finds a lost
device again, and opens another one where that is asked for."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from realtime_mer.config import AudioSettings
from realtime_mer.log import LOGGER
from realtime_mer.sources import Capture
from realtime_mer.sources.capturing import HEADER, PerhapsOursError, command
from realtime_mer.sources.devices import DeviceError, InputDevice, choose, is_gone
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.portaudio import LOOK_S, CallbackWatch
from realtime_mer.types import FloatArray
from realtime_mer.updates import Answer, SourceState

# For how long no block may come before the device counts as gone.
_STALLED_S = 1.0
_STALLED_BLOCKS = 4
_SOURCE_CHECK_S = 2.0
_REPLY_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 0.5
_CLOSE_TIMEOUT_S = 0.7
_BACKOFF_S = (0.1, 0.2, 0.4, 0.5)
# Little: what waits for a reader that is late waits in the capturing process, where it can be dropped.
_MOST_WAITING_PACKETS = 4
# Of what waited for a reader that was away for long, no more than this is worth a prediction.
_MOST_BEHIND_S = 0.5
# Starting PortAudio again leaves some kilobytes of ALSA's behind each time, and a lost device is looked for all night.
_MOST_REQUESTS = 200
# No input has so long a name.
_NAME_CHARACTERS = 200
_HANGS = "The sound system does not answer. Restart it."
_BROKEN = "The sound system's library broke down."


@dataclass(frozen=True, slots=True)
class _Request:
    """Somebody wants to listen to another input."""

    wanted: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Packet:
    """Some blocks as they came. samples: float32, shape (n_samples, n_columns). The rest: see capturing.HEADER."""

    samples: FloatArray
    captured_s: float
    dropped_blocks: int
    overflows: int


class _Segment:
    """Sound without an interruption, on its way to the reader."""

    def __init__(self, number: int, rate_hz: int, block_samples: int) -> None:
        self.number = number
        self.rate_hz = rate_hz
        self.block_samples = block_samples
        self.since_s = time.monotonic()
        self.packets: queue.Queue[_Packet] = queue.Queue(_MOST_WAITING_PACKETS)


class _Capturer:
    """A capturing process, and the thread that takes what it sends. `ask` for the inputs, or to open one.

    segment: where its sound goes; None while nobody listens. heard: whether any has come. finished: whether the process
    has ended. n_requests: how often it was asked. checked_s: when the sound server was last asked for the device.
    """

    def __init__(self) -> None:
        self.device: InputDevice
        self.rate_hz = 0
        self.segment: _Segment | None = None
        self.heard = False
        self.finished = False
        self.n_requests = 0
        self.checked_s = 0.0
        self._block_samples = 0
        self._stalled_s = 0.0
        self._n_signs = 0
        self._watch: CallbackWatch
        # None: there will be no more.
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # BLAS starts a thread for each core, and nothing here needs one.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        # A session of its own: Ctrl-C in a terminal is not for it. What ALSA and PortAudio complain of goes nowhere,
        # since they can do so for ever.
        self._process = subprocess.Popen(
            command(),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._take, name="device reader", daemon=True).start()

    def ask(self, request: dict[str, Any]) -> None:
        """Returns at once; `reply` follows."""
        self.n_requests += 1
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def reply(self, timeout_s: float) -> dict[str, Any] | None:
        """None where it has not come yet. Raises DeviceError where it never will, or says that something failed."""
        try:
            reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if reply is None:
            raise DeviceError(_BROKEN)
        if "error" in reply:
            raise (PerhapsOursError if reply["perhaps_ours"] else DeviceError)(reply["error"])
        return reply

    def is_stalled(self) -> bool:
        """Whether it gives nothing; to be asked every LOOK_S, once it is open."""
        return self._watch.is_stalled(self._n_signs, self._stalled_s)

    def begin(self, number: int) -> _Segment:
        """A segment of what comes from now on."""
        self.segment = _Segment(number, self.rate_hz, self._block_samples)
        return self.segment

    def end(self) -> None:
        """At once, whatever it is doing."""
        self.segment = None
        self._process.kill()
        # Only a driver that hangs keeps it longer; it is left to the system then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _take(self) -> None:
        """The thread."""
        assert self._process.stdout is not None
        # Where the process ends in the middle of something, that is all there is.
        try:
            with self._process.stdout as answers, contextlib.suppress(EOFError, ValueError):
                while True:
                    reply = json.loads(answers.readline())
                    if "device" in reply:
                        self._set(reply)
                    self._replies.put(reply)
                    if "device" in reply:
                        self._take_blocks(answers, reply["n_columns"])
        except Exception:  # noqa: BLE001 - whatever it is, the keeper has to hear that nothing more comes
            LOGGER.exception("the capturing process says what makes no sense")
        finally:
            self.finished = True
            self._replies.put(None)

    def _set(self, reply: dict[str, Any]) -> None:
        self.device = InputDevice(**reply["device"])
        self.rate_hz, self._block_samples = reply["rate_hz"], reply["block_samples"]
        # With a long buffer the sound comes in bursts.
        block_s = self._block_samples / self.rate_hz
        self._stalled_s = max(_STALLED_S, _STALLED_BLOCKS * block_s, 2.0 * reply["latency_s"])
        self._watch = CallbackWatch()
        self.checked_s = time.monotonic()

    def _take_blocks(self, answers: IO[bytes], n_columns: int) -> None:
        while True:
            captured_s, n_blocks, dropped_blocks, overflows = HEADER.unpack(_read(answers, HEADER.size))
            n_samples = n_blocks * self._block_samples
            samples = np.frombuffer(_read(answers, n_samples * n_columns * 4), dtype=np.float32)
            self._n_signs += 1
            self.heard = True
            self._give(_Packet(samples.reshape(n_samples, n_columns), captured_s, dropped_blocks, overflows))

    def _give(self, packet: _Packet) -> None:
        while (segment := self.segment) is not None and packet.captured_s >= segment.since_s:
            try:
                segment.packets.put(packet, timeout=LOOK_S)
            except queue.Full:
                # It is the reader that is late, not the device.
                self._n_signs += 1
                self.finished = self._process.poll() is not None
            else:
                return


class DeviceSource:
    """Sound from an input device, in real time, for as long as it takes.

    `start` opens the device, or raises DeviceError. From then on nothing raises: where the device goes away (unplugged,
    its server ended, silent for a second, PortAudio stuck or crashed) `state` is LOST, and a keeper thread opens it
    again, by name and host API, as soon as it is back. What comes then is a new segment; `state` is RUNNING once its
    first sound is read.

    `pause`, `resume` and `choose` may be called by any thread, and do not wait for the device.
    """

    interrupted_by_pause = True

    def __init__(self, settings: AudioSettings) -> None:
        self._settings = settings
        self._device: InputDevice
        # All of this is changed together, by the reader, the keeper and whoever asks for something.
        self._lock = threading.Lock()
        self._state = SourceState.OPENING
        self._paused = False
        self._current: _Capturer | None = None
        # Only the keeper's: one that has nothing open, kept for the next attempt.
        self._spare: _Capturer | None = None
        self._segments: deque[_Segment] = deque()
        self._n_segments = 0
        self._request: _Request | None = None
        self.detail = ""
        self.name = settings.device
        # When was read last, what came in before is stale, and how much of that was dropped since the last capture.
        self._read_s: float | None = None
        self._fresh_s = 0.0
        self._stale_blocks = 0
        # Only the reader changes these.
        self.dropped_blocks = 0
        self.overflows = 0
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

    def start(self) -> None:
        """Opens the device. Raises DeviceError where that is impossible, or takes longer than ten seconds."""
        self._keeper.start()
        # The keeper waits for nothing for ever.
        self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def read(self) -> Capture | None:
        """As Source has it. Who has not called this for longer than `audio.buffer_s`, as where the process was
        suspended, gets the last half second at most; the rest is counted as dropped."""
        now_s = time.monotonic()
        if self._read_s is not None and now_s - self._read_s > self._settings.buffer_s:
            self._fresh_s = now_s - _MOST_BEHIND_S
        self._read_s = now_s
        with self._lock:
            current = self._current
            if self._state is SourceState.ENDED:
                return None
            if self._paused:
                if current is not None and current.heard:
                    self._become(SourceState.RUNNING, "")
                return None
            while self._segments:
                segment = self._segments[0]
                # Before the read: what is written between the two is then sure to be read.
                over = current is None or segment is not current.segment
                with contextlib.suppress(queue.Empty):
                    samples, dropped_samples, captured_s = self._fresh(segment, segment.packets.get_nowait())
                    if not over:
                        self._become(SourceState.RUNNING, "")
                    if len(samples):
                        gridded, n_replaced = on_grid(samples)
                        self.replaced_samples += n_replaced
                        return Capture(gridded, segment.rate_hz, segment.number, dropped_samples, captured_s)
                    continue
                if not over:
                    return None
                self._segments.popleft()
                self._stale_blocks = 0
            return None

    def _fresh(self, segment: _Segment, packet: _Packet) -> tuple[FloatArray, int, float]:
        """The samples that are not stale, how many per channel were dropped right before them, and when they came."""
        block_s = segment.block_samples / segment.rate_hz
        n_blocks = len(packet.samples) // segment.block_samples
        n_fresh = min(max(math.ceil((packet.captured_s - self._fresh_s) / block_s), 0), n_blocks)
        n_dropped = packet.dropped_blocks + n_blocks - n_fresh
        self.overflows += packet.overflows
        self.dropped_blocks += n_dropped
        self._stale_blocks += n_dropped
        samples = packet.samples[(n_blocks - n_fresh) * segment.block_samples :]
        dropped_samples = self._stale_blocks * segment.block_samples
        if n_fresh:
            self._stale_blocks = 0
        return samples, dropped_samples, packet.captured_s

    def pause(self) -> None:
        """Nothing comes until `resume`, and what sounds until then is not kept, nor counted as lost.

        The device stays open, so that its loss is seen (`state` is LOST until it is back) and `resume` works at once.
        """
        with self._lock:
            if not self._paused:
                self._paused = True
                # What was not read yet goes too: after a long pause, nobody wants to hear it.
                self._segments.clear()
                self._stale_blocks = 0
                if self._current is not None:
                    self._current.segment = None

    def resume(self) -> None:
        """What comes from now on is a new segment. Harmless when it is not paused."""
        with self._lock:
            if self._paused:
                self._paused = False
                # A pause is no reader's lateness.
                self._read_s = None
                if self._current is not None:
                    self._begin_segment(self._current)

    def choose(self, name: str, answer: Answer) -> None:
        """Listens to another input, as `--device` would take it; the other settings stay.

        The present input goes on until the other one gives sound, and where that does not come. Only where it may be
        in the other one's way, as one name of a card is in that of another, does it rest for a moment.

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
        if self._keeper.ident is not None:
            # Only a sound server that hangs keeps it longer, and it is no thread that a process waits for at its end.
            self._keeper.join(_CLOSE_TIMEOUT_S)
        with self._lock:
            self._state = SourceState.ENDED
        self._answer(False, "The program ends.")

    def _keep(self) -> None:
        """The keeper thread: opens the device, watches it, opens it again, and opens another one."""
        try:
            self._listen_to(self._open(self._settings.device))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the device must hear of it
            self._failure = _device_error(error, self.name)
            self._end_spare()
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
            if self._current is not None:
                self._end_spare()
            # Even then: whoever asks again and again for what is not there must not keep the lost device away.
            if opened is None and self._current is None and not self._closing.is_set():
                self._reopen()
        if self._current is not None:
            self._let_go(self._current, self._state, self.detail)
        self._end_spare()

    def _rest(self, at_most_s: float) -> bool:
        """Whether this source is being closed. Returns earlier where something is asked for."""
        self._wake.wait(at_most_s)
        self._wake.clear()
        return self._closing.is_set()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The spare process's reply. Raises DeviceError where it refuses, or does not answer."""
        if self._spare is not None and (self._spare.finished or self._spare.n_requests >= _MOST_REQUESTS):
            self._end_spare()
        if self._spare is None:
            self._spare = _Capturer()
        self._spare.ask(request)
        give_up_s = time.monotonic() + _REPLY_TIMEOUT_S
        while (reply := self._spare.reply(LOOK_S)) is None:
            self._notice_loss()
            if self._closing.is_set() or time.monotonic() > give_up_s:
                self._end_spare()
                raise DeviceError(_HANGS)
        return reply

    def _end_spare(self) -> None:
        if self._spare is not None:
            self._spare.end()
            self._spare = None

    def _open(self, wanted: str, again: InputDevice | None = None) -> _Capturer:
        """again: the device to open, known already. Raises DeviceError."""
        known = None if again is None else asdict(again)
        self._ask({"wanted": wanted, "again": known, "settings": asdict(self._settings)})
        assert self._spare is not None
        opened, self._spare = self._spare, None
        return opened

    def _open_heard(self, wanted: str, again: InputDevice | None = None) -> _Capturer:
        """As `_open`, and waits for its first sound. Raises DeviceError where none comes."""
        opened = self._open(wanted, again)
        while not opened.heard:
            self._notice_loss()
            if opened.finished or opened.is_stalled() or self._closing.wait(LOOK_S):
                opened.end()
                raise DeviceError(f"The input {opened.device.name!r} opens, but delivers no data.")
        return opened

    def _notice_loss(self) -> None:
        """Lets go of what is lost while another one is being opened, which may take long."""
        if self._current is not None:
            self._let_go_if_lost(self._current)

    def _let_go_if_lost(self, opened: _Capturer) -> bool:
        reason = self._why_lost(opened)
        if reason is not None:
            self._let_go(opened, SourceState.LOST, f"{reason} Waiting for its return.")
        return reason is not None

    def _listen_to(self, opened: _Capturer) -> None:
        """From now on, and no longer to what is open."""
        with self._lock:
            before, self._current = self._current, opened
            self._device, self.name = opened.device, opened.device.name
            if not self._paused:
                self._begin_segment(opened)
        if before is not None:
            before.end()

    def _let_go(self, opened: _Capturer, state: SourceState, detail: str) -> None:
        # Together, so that whoever sees the state gets what is left of this segment, and then no more of it.
        with self._lock:
            self._current = None
            self._become(state, detail)
        opened.end()

    def _begin_segment(self, opened: _Capturer) -> None:
        """The lock is held."""
        self._segments.append(opened.begin(self._n_segments))
        self._n_segments += 1

    def _become(self, state: SourceState, detail: str) -> None:
        """The lock is held."""
        # The end is final, even for a keeper that comes back from a sound system that had hung.
        if self._state is not SourceState.ENDED:
            self._state, self.detail = state, detail

    def _watch(self, opened: _Capturer) -> None:
        """Returns once it is lost, and let go of; or another one is asked for, or this source is being closed."""
        while not self._rest(LOOK_S):
            if self._let_go_if_lost(opened) or self._request is not None:
                return

    def _why_lost(self, opened: _Capturer) -> str | None:
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
            # The default too: while a sound server is away, PortAudio's default is some card that nobody chose.
            self._listen_to(self._open(self.name, self._device))
        except Exception as error:  # noqa: BLE001 - a night's run must not end with a strange answer of a driver
            with self._lock:
                self._become(SourceState.LOST, _sentence(_device_error(error, self.name)))

    def _carry_out(self, request: _Request) -> None:
        try:
            present = self._current
            if present is None:
                self._listen_to(self._open_heard(request.wanted))
            else:
                self._change(present, request.wanted)
        except Exception as error:  # noqa: BLE001 - as above
            self._answer(False, _sentence(_device_error(error, request.wanted)))
        else:
            self._answer(True, self.name)

    def _change(self, present: _Capturer, wanted: str) -> None:
        """Listens to another input, or raises DeviceError, among others, and goes on with the present one."""
        device = choose(self._inputs(), wanted, self._settings.host_api)
        if _is_open(device, present):
            return
        try:
            self._listen_to(self._open_heard(wanted, device))
        except PerhapsOursError:
            # Where that one is the sound server's, no card is ours.
            if present.device.remixes:
                raise
        else:
            return
        if self._current is present:
            self._let_go(present, SourceState.OPENING, "")
        try:
            self._listen_to(self._open_heard(wanted, device))
        finally:
            if self._current is None and not self._closing.is_set():
                self._reopen()

    def _inputs(self) -> list[InputDevice]:
        """This machine's, as they are now. Raises DeviceError where they cannot be listed."""
        try:
            return [InputDevice(**device) for device in self._ask({"list": True})["inputs"]]
        except DeviceError as error:
            raise DeviceError(f"The inputs cannot be listed. {error}") from error

    def _answer(self, done: bool, text: str) -> None:
        """To whoever asked for another input, if anybody did."""
        with self._lock:
            request, self._request = self._request, None
        if request is not None:
            request.answer(done, text)


def _read(answers: IO[bytes], n_bytes: int) -> bytes:
    """Raises EOFError where there are not so many any more."""
    received = answers.read(n_bytes)
    if len(received) < n_bytes:
        raise EOFError
    return received


def _is_open(device: InputDevice, opened: _Capturer) -> bool:
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
