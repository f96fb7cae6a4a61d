"""The capturing process: all use of PortAudio's inputs happens in one of these.

PortAudio's ALSA host can loop forever, or abort, if a device dies while it is being opened or closed
(https://github.com/PortAudio/portaudio/issues/1037). A thread inside it cannot be ended, but a process can. And
PortAudio lists devices only when it starts; in this process it can be restarted without losing sound.

Requests are lines of JSON on standard input; each gets a line of JSON on standard output. Once a device is open, blocks
follow, each with a header. The end of standard input ends the process.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from realtime_mer.config import AudioSettings
from realtime_mer.sources.devices import (
    DeviceError,
    InputDevice,
    find_again,
    find_input,
    list_inputs,
    portaudio,
    pulse_source_chosen,
)
from realtime_mer.sources.ring import BlockRing
from realtime_mer.types import FloatArray

# Before some blocks' samples: time.monotonic() when the last of them came in, how many blocks there are, how many were
# dropped right before them, and how often the sound card's own buffer overflowed since the blocks before.
HEADER = struct.Struct("<dIII")
_DEFAULT_BLOCK_S = 0.01
_DEFAULT_CHANNELS = 2
# How often to check for sound: half a block's time.
_REST_S = 0.005
# PortAudio's error codes (portaudio.h) with a remedy of their own.
_INVALID_CHANNELS, _INVALID_RATE, _UNAVAILABLE = -9998, -9997, -9985


class PerhapsOursError(DeviceError):
    """A device that may fail to open because this program holds it under another name."""


@dataclass(slots=True)
class Opened:
    """An open stream."""

    device: InputDevice
    rate_hz: int
    n_channels: int
    columns: list[int]
    block_samples: int
    ring: BlockRing
    stream: Any = None
    overflows: int = 0
    finished: bool = False

    def callback(self, samples: FloatArray, _n_samples: int, _time: object, status: Any) -> None:
        """PortAudio's callback: copies and counts. It wakes no thread, which would need a lock."""
        self.ring.write(samples)
        if status.input_overflow:
            self.overflows += 1

    def on_finished(self) -> None:
        """PortAudio's callback when the stream has ended by itself."""
        self.finished = True


def command() -> list[str]:
    """The command that starts such a process."""
    # -P: don't import modules from the working folder.
    return [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]


def main() -> None:
    """The process's main function."""
    # Signals are for the parent process: when it ends, standard input ends.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # Some sound systems print messages to standard output.
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), name="requests", daemon=True).start()
    n_answered = 0
    while True:
        request = json.loads(requests.get())
        opened = None
        try:
            if n_answered:
                _look_for_devices_again()
            if "list" in request:
                answer: dict[str, Any] = {"inputs": [asdict(device) for device in list_inputs()]}
            else:
                opened = _open(request)
                answer = {
                    "device": asdict(opened.device),
                    "rate_hz": opened.rate_hz,
                    "n_columns": len(opened.columns),
                    "block_samples": opened.block_samples,
                    "latency_s": float(opened.stream.latency),
                }
        except DeviceError as error:
            answer = {"error": str(error), "perhaps_ours": isinstance(error, PerhapsOursError)}
        except Exception as error:  # noqa: BLE001 - a strange error of a driver must not end the run
            answer = {"error": f"{type(error).__name__}: {error}.", "perhaps_ours": False}
        n_answered += 1
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if opened is not None:
            _send(opened, answers)
            # Skips PortAudio's own exit handler, which may hang.
            os._exit(0)


def _receive(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _look_for_devices_again() -> None:
    """Restarts PortAudio; sounddevice has no public function for it."""
    sounddevice = portaudio()
    try:
        # After a failed start there is nothing to end.
        if sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"PortAudio does not start: {error}") from error


def _open(request: dict[str, Any]) -> Opened:
    settings = request["settings"]
    settings = AudioSettings(**{**settings, "channels": settings["channels"] and tuple(settings["channels"])})
    if request["again"] is not None:
        device = find_again(InputDevice(**request["again"]))
    else:
        device = find_input(request["wanted"], settings.host_api)
    return open_stream(portaudio(), device, settings)


def _send(opened: Opened, answers: BinaryIO) -> None:
    """Sends blocks until the stream or the reader ends. If the reader is late, this waits and the ring drops blocks."""
    n_overflows = 0
    while True:
        # Before the read, so that everything before the end is sent.
        finished = opened.finished
        blocks = opened.ring.read()
        if blocks.captured_s is not None:
            overflows = opened.overflows
            n_blocks = len(blocks.samples) // opened.block_samples
            header = HEADER.pack(blocks.captured_s, n_blocks, blocks.dropped_blocks, overflows - n_overflows)
            n_overflows = overflows
            try:
                answers.write(header + blocks.samples[:, opened.columns].tobytes())
                answers.flush()
            except OSError:
                return
        if finished:
            return
        time.sleep(_REST_S)


def open_stream(sounddevice: ModuleType, device: InputDevice, settings: AudioSettings) -> Opened:
    """Opens the device and starts it. Raises DeviceError with a sentence and the remedy."""
    rate_hz = settings.rate_hz or device.rate_hz
    channels = settings.channels or tuple(range(1, min(device.n_channels, _DEFAULT_CHANNELS) + 1))
    n_channels = max(device.n_channels if device.remixes else 1, *channels)
    if device.remixes and n_channels > device.n_channels:
        raise DeviceError(_too_few_channels(device, n_channels))
    block_samples = settings.block_samples or max(round(rate_hz * _DEFAULT_BLOCK_S), 1)
    n_blocks = max(math.ceil(settings.buffer_s * rate_hz / block_samples), 2)
    columns = [channel - 1 for channel in channels]
    ring = BlockRing(n_blocks, block_samples, n_channels)
    opened = Opened(device, rate_hz, n_channels, columns, block_samples, ring)
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
        return PerhapsOursError(
            f"{name} is in use by another program, or gone. Close that program or choose another input. If the sound "
            "server uses it, choose the one that `realtime-mer devices` lists under PulseAudio."
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
    return PerhapsOursError(f"{name} cannot be opened: {error}.")


def _too_few_channels(device: InputDevice, n_channels: int) -> str:
    return (
        f"The input {device.name!r} cannot give {n_channels} channels; it has {device.n_channels}. "
        "Choose others with --channels."
    )
