"""The sound card: a process that captures, a thread that reads from it, and a keeper thread that reopens a lost device
or opens another one on request."""

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
from realtime_mer.log.libraries import log_lines
from realtime_mer.sources import Capture
from realtime_mer.sources.capturing import HEADER, PerhapsOursError, command
from realtime_mer.sources.devices import DeviceError, InputDevice, choose, is_gone
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.portaudio import LOOK_S, CallbackWatch
from realtime_mer.types import FloatArray
from realtime_mer.updates import Answer, SourceState

# The device counts as lost after this time without a block.
_STALLED_S = 1.0
_STALLED_BLOCKS = 4
_SOURCE_CHECK_S = 2.0
_REPLY_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 0.5
_CLOSE_TIMEOUT_S = 0.7
_BACKOFF_S = (0.1, 0.2, 0.4, 0.5)
# Few: for a late reader, sound should wait in the capturing process, where it can be dropped.
_MOST_WAITING_PACKETS = 4
# If the reader was away for long, older sound than this is dropped.
_MOST_BEHIND_S = 0.5
# Each restart of PortAudio leaks some kilobytes in ALSA, and the search for a lost device may take all night.
_MOST_REQUESTS = 200
# No input has a longer name.
_NAME_CHARACTERS = 200
_HANGS = "The sound system does not answer. Restart it."
_BROKEN = "The sound system's library crashed."


@dataclass(frozen=True, slots=True)
class _Request:
    """A request for another input."""

    wanted: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Packet:
    """Some received blocks. samples: float32, shape (n_samples, n_columns). The rest: see capturing.HEADER."""

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
    """A capturing process, and the thread that reads from it. `request` lists the inputs or opens one.

    segment: where its sound goes; None: it is discarded. has_sound: whether any has come. finished: whether the process
    has ended. n_requests: how many there were. checked_s: when the sound server was last asked for the device.
    """

    def __init__(self) -> None:
        self.device: InputDevice
        self.rate_hz = 0
        self.segment: _Segment | None = None
        self.has_sound = False
        self.finished = False
        self.n_requests = 0
        self.checked_s = 0.0
        self._block_samples = 0
        self._stalled_s = 0.0
        self._n_signs = 0
        self._watch: CallbackWatch
        # None: there are no more.
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # Without this, BLAS starts a thread for each core.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        # A session of its own, so that it gets no Ctrl-C from the terminal.
        self._process = subprocess.Popen(
            command(),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        log_lines(self._process.stderr)
        threading.Thread(target=self._take, name="device reader", daemon=True).start()

    def request(self, request: dict[str, Any]) -> None:
        """Returns at once; `reply` follows."""
        self.n_requests += 1
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def reply(self, timeout_s: float) -> dict[str, Any] | None:
        """The reply; None if it has not come yet. Raises DeviceError if it never will, or reports an error."""
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
        """Whether no sound comes. Call it every LOOK_S, once it is open."""
        return self._watch.is_stalled(self._n_signs, self._stalled_s)

    def begin(self, number: int) -> _Segment:
        """A segment of the sound from now on."""
        self.segment = _Segment(number, self.rate_hz, self._block_samples)
        return self.segment

    def end(self) -> None:
        """Kills the process."""
        self.segment = None
        self._process.kill()
        # If a driver hangs, leave the process to the system.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _take(self) -> None:
        """The thread."""
        assert self._process.stdout is not None
        # The process may end in the middle of a message.
        try:
            with self._process.stdout as answers, contextlib.suppress(EOFError, ValueError):
                while True:
                    reply = json.loads(answers.readline())
                    if "device" in reply:
                        self._set(reply)
                    self._replies.put(reply)
                    if "device" in reply:
                        self._take_blocks(answers, reply["n_columns"])
        except Exception:  # noqa: BLE001 - the keeper must learn that nothing more comes
            LOGGER.exception("the capturing process sent an invalid message")
        finally:
            self.finished = True
            self._replies.put(None)

    def _set(self, reply: dict[str, Any]) -> None:
        self.device = InputDevice(**reply["device"])
        self.rate_hz, self._block_samples = reply["rate_hz"], reply["block_samples"]
        # With a long buffer, sound comes in bursts.
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
            self.has_sound = True
            self._give(_Packet(samples.reshape(n_samples, n_columns), captured_s, dropped_blocks, overflows))

    def _give(self, packet: _Packet) -> None:
        while (segment := self.segment) is not None and packet.captured_s >= segment.since_s:
            try:
                segment.packets.put(packet, timeout=LOOK_S)
            except queue.Full:
                # The reader is late, not the device.
                self._n_signs += 1
                self.finished = self._process.poll() is not None
            else:
                return


class DeviceSource:
    """Sound from an input device, in real time.

    `start` opens the device, or raises DeviceError. After that nothing raises: if the device is lost (unplugged, its
    server ended, no data for a second, PortAudio stuck or crashed), `state` is LOST, and a keeper thread opens it
    again, by name and host API, as soon as it is back. Its sound is then a new segment; `state` is RUNNING once the
    first of it is read.

    Any thread may call `pause`, `resume` and `choose`; they do not wait for the device.
    """

    interrupted_by_pause = True

    def __init__(self, settings: AudioSettings) -> None:
        self._settings = settings
        self._device: InputDevice
        # The lock guards all of this. The reader, the keeper and requesting threads change it.
        self._lock = threading.Lock()
        self._state = SourceState.OPENING
        self._paused = False
        self._current: _Capturer | None = None
        # Only for the keeper: a process with nothing open, kept for the next attempt.
        self._spare: _Capturer | None = None
        self._segments: deque[_Segment] = deque()
        self._n_segments = 0
        self._request: _Request | None = None
        self.detail = ""
        self.name = settings.device
        # When it was last read, from when on sound is fresh, and how many stale blocks were dropped since then.
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
        # Wakes the keeper.
        self._wake = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="device keeper", daemon=True)

    @property
    def state(self) -> SourceState:
        state = self._state
        resting = self._paused and state in (SourceState.OPENING, SourceState.RUNNING)
        return SourceState.PAUSED if resting else state

    def start(self) -> None:
        """Opens the device. Raises DeviceError if that is impossible or takes longer than ten seconds."""
        self._keeper.start()
        # The keeper has time limits for everything.
        self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def read(self) -> Capture | None:
        """As for every source. After a gap of more than `audio.buffer_s` between calls, as after a suspension, it
        returns at most the last half second; the rest is counted as dropped."""
        now_s = time.monotonic()
        if self._read_s is not None and now_s - self._read_s > self._settings.buffer_s:
            self._fresh_s = now_s - _MOST_BEHIND_S
        self._read_s = now_s
        with self._lock:
            current = self._current
            if self._state is SourceState.ENDED:
                return None
            if self._paused:
                if current is not None and current.has_sound:
                    self._become(SourceState.RUNNING, "")
                return None
            while self._segments:
                segment = self._segments[0]
                # Before the read, so that nothing written between the two is missed.
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
        """The fresh samples, how many per channel were dropped right before them, and when they came."""
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
        """Discards the sound until `resume`, without counting it as lost.

        The device stays open: its loss is noticed (`state` is LOST until it is back), and `resume` works at once.
        """
        with self._lock:
            if not self._paused:
                self._paused = True
                # Unread sound is discarded too: after a long pause it would be too old.
                self._segments.clear()
                self._stale_blocks = 0
                if self._current is not None:
                    self._current.segment = None

    def resume(self) -> None:
        """Continues with a new segment. Has no effect if it is not paused."""
        with self._lock:
            if self._paused:
                self._paused = False
                # After a pause the reader is not late.
                self._read_s = None
                if self._current is not None:
                    self._begin_segment(self._current)

    def choose(self, name: str, answer: Answer) -> None:
        """Changes to another input, named as for `--device`; the other settings stay.

        The present input goes on until the other one gives sound, and if it never does. It is closed before only if it
        may block the other one, as two names of the same card do.

        answer: called once, by this thread or the keeper's, with the new input's name, or a sentence with the reason
            why it was not opened. It must not wait or raise. Only one request is taken at a time.
        """
        with self._lock:
            refusal = ""
            if self._closing.is_set() or not self._keeper.is_alive():
                refusal = "No input is open."
            elif self._request is not None:
                refusal = "Another input is already being opened."
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
            # A daemon: if the sound server hangs, the process can still end.
            self._keeper.join(_CLOSE_TIMEOUT_S)
        with self._lock:
            self._state = SourceState.ENDED
        self._answer(False, "The program is ending.")

    def _keep(self) -> None:
        """The keeper thread: opens the device, watches it, opens it again, and opens another one."""
        try:
            self._switch_to(self._open(self._settings.device))
        except Exception as error:  # noqa: BLE001 - `start` raises it
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
            # Also after a request: repeated requests must not keep the lost device from being reopened.
            if opened is None and self._current is None and not self._closing.is_set():
                self._reopen()
        if self._current is not None:
            self._close_device(self._current, self._state, self.detail)
        self._end_spare()

    def _rest(self, at_most_s: float) -> bool:
        """Waits, but not beyond a request; returns whether this source is being closed."""
        self._wake.wait(at_most_s)
        self._wake.clear()
        return self._closing.is_set()

    def _request_reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The spare process's reply. Raises DeviceError if it reports an error or does not answer."""
        if self._spare is not None and (self._spare.finished or self._spare.n_requests >= _MOST_REQUESTS):
            self._end_spare()
        if self._spare is None:
            self._spare = _Capturer()
        self._spare.request(request)
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
        """again: the device to open, if it is already known. Raises DeviceError."""
        known = None if again is None else asdict(again)
        self._request_reply({"wanted": wanted, "again": known, "settings": asdict(self._settings)})
        assert self._spare is not None
        opened, self._spare = self._spare, None
        return opened

    def _open_with_sound(self, wanted: str, again: InputDevice | None = None) -> _Capturer:
        """Like `_open`, but waits for the first sound. Raises DeviceError if none comes."""
        opened = self._open(wanted, again)
        while not opened.has_sound:
            self._notice_loss()
            if opened.finished or opened.is_stalled() or self._closing.wait(LOOK_S):
                opened.end()
                raise DeviceError(f"The input {opened.device.name!r} opens, but delivers no data.")
        return opened

    def _notice_loss(self) -> None:
        """Closes a lost device while another one is being opened, which may take long."""
        if self._current is not None:
            self._close_if_lost(self._current)

    def _close_if_lost(self, opened: _Capturer) -> bool:
        reason = self._why_lost(opened)
        if reason is not None:
            self._close_device(opened, SourceState.LOST, f"{reason} Waiting for its return.")
        return reason is not None

    def _switch_to(self, opened: _Capturer) -> None:
        """Makes it the present input, and ends the one before."""
        with self._lock:
            before, self._current = self._current, opened
            self._device, self.name = opened.device, opened.device.name
            if not self._paused:
                self._begin_segment(opened)
        if before is not None:
            before.end()

    def _close_device(self, opened: _Capturer, state: SourceState, detail: str) -> None:
        # Together: a reader that sees the state gets the rest of this segment, and then no more of it.
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
        # The end is final, even if the keeper returns from a hanging sound system later.
        if self._state is not SourceState.ENDED:
            self._state, self.detail = state, detail

    def _watch(self, opened: _Capturer) -> None:
        """Returns once it is lost and closed, another input is requested, or this source is being closed."""
        while not self._rest(LOOK_S):
            if self._close_if_lost(opened) or self._request is not None:
                return

    def _why_lost(self, opened: _Capturer) -> str | None:
        stalled = opened.is_stalled()
        if opened.finished:
            return "The sound system closed this input."
        if stalled:
            return "It delivers no data any more."
        if opened.device.pulse_source and time.monotonic() - opened.checked_s > _SOURCE_CHECK_S:
            opened.checked_s = time.monotonic()
            # The server would silently move the stream to another source.
            if is_gone(opened.device.pulse_source):
                return "The sound server no longer has it."
        return None

    def _reopen(self) -> None:
        """Tries once to open the device again; if that fails, it is lost."""
        try:
            # By name, also for the default: without a sound server, PortAudio's default is an arbitrary card.
            self._switch_to(self._open(self.name, self._device))
        except Exception as error:  # noqa: BLE001 - a strange error of a driver must not end the run
            with self._lock:
                self._become(SourceState.LOST, _sentence(_device_error(error, self.name)))

    def _carry_out(self, request: _Request) -> None:
        try:
            present = self._current
            if present is None:
                self._switch_to(self._open_with_sound(request.wanted))
            else:
                self._change(present, request.wanted)
        except Exception as error:  # noqa: BLE001 - as above
            self._answer(False, _sentence(_device_error(error, request.wanted)))
        else:
            self._answer(True, self.name)

    def _change(self, present: _Capturer, wanted: str) -> None:
        """Changes to another input, or raises DeviceError, among others, and stays with the present one."""
        device = choose(self._inputs(), wanted, self._settings.host_api)
        if _is_open(device, present):
            return
        try:
            self._switch_to(self._open_with_sound(wanted, device))
        except PerhapsOursError:
            # If the present one belongs to the sound server, this program holds no card.
            if present.device.remixes:
                raise
        else:
            return
        if self._current is present:
            self._close_device(present, SourceState.OPENING, "")
        try:
            self._switch_to(self._open_with_sound(wanted, device))
        finally:
            if self._current is None and not self._closing.is_set():
                self._reopen()

    def _inputs(self) -> list[InputDevice]:
        """This machine's present inputs. Raises DeviceError if they cannot be listed."""
        try:
            return [InputDevice(**device) for device in self._request_reply({"list": True})["inputs"]]
        except DeviceError as error:
            raise DeviceError(f"The inputs cannot be listed. {error}") from error

    def _answer(self, done: bool, text: str) -> None:
        """Answers the request for another input, if there is one."""
        with self._lock:
            request, self._request = self._request, None
        if request is not None:
            request.answer(done, text)


def _read(answers: IO[bytes], n_bytes: int) -> bytes:
    """Raises EOFError if there are fewer bytes left."""
    received = answers.read(n_bytes)
    if len(received) < n_bytes:
        raise EOFError
    return received


def _is_open(device: InputDevice, opened: _Capturer) -> bool:
    # The sound server's default may be another source by now.
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
