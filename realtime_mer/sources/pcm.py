"""Raw PCM from a pipe as a source: `ffmpeg … | realtime-mer --input -`."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import BinaryIO

import numpy as np

from realtime_mer.sources import Capture, SourceError
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

# The most sound that waits for `read`, that `read` returns, and that is read from the pipe at once.
_QUEUE_S = 2.0
_CAPTURE_S = 0.5
_READ_BYTES = 2**16
_SAMPLE_BYTES = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
# The first bytes of other formats, which would be noise if played as PCM.
_OTHER_FORMATS = {b"RIFF": "WAV", b"RF64": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"ID3": "MP3"}
_HOW_TO = "Pipe raw PCM into it: ffmpeg -re -i SONG -f s16le -ar 44100 -ac 2 - | realtime-mer --input -"


class PcmSource:
    """Raw PCM as it comes in through a pipe (or from a file), without a header.

    A thread reads the pipe and passes on each piece at once. Nothing is ever dropped: while two seconds wait for
    `read`, the thread stops reading, so the pipe fills and its writer waits. `captured_s` is the time at which the
    sound was read from the pipe. An incomplete last frame is left out, and `detail` reports it.

    stream: its file descriptor is read directly, without the stream's buffer; it stays open.
    pcm_format: one of config.PCM_FORMATS: little-endian integers of 16, 24 or 32 bits, or 32-bit floats.
    rate_hz: samples per second and channel. n_channels: how many samples, interleaved, make a frame.
    """

    overflows = 0
    interrupted_by_pause = False
    dropped_blocks = 0
    name = "standard input"

    def __init__(self, stream: BinaryIO | None, pcm_format: str, rate_hz: int, n_channels: int) -> None:
        self._stream = stream
        self._pcm_format = pcm_format
        self._rate_hz = rate_hz
        self._n_channels = n_channels
        self._frame_bytes = _SAMPLE_BYTES[pcm_format] * n_channels
        self._queue_bytes = self._frame_bytes * max(1, int(_QUEUE_S * rate_hz))
        self._capture_bytes = self._frame_bytes * max(1, int(_CAPTURE_S * rate_hz))
        # Both threads use these, under the condition's lock.
        self._condition = threading.Condition()
        self._chunks: deque[tuple[bytes, float]] = deque()
        self._queued_bytes = 0
        self._failure: OSError | None = None
        self._at_end = False
        self._closing = False
        # Only the thread that calls `read` uses these.
        self._rest = b""
        self._at_beginning = True
        self._captured_s = 0.0
        self.state = SourceState.OPENING
        self.detail = ""
        self.replaced_samples = 0

    def start(self) -> None:
        """Raises SourceError if standard input is closed or a terminal."""
        try:
            # None if the process has no standard input.
            fd = -1 if self._stream is None else self._stream.fileno()
            is_terminal = os.isatty(fd)
            os.fstat(fd)
        except (OSError, ValueError) as error:
            raise SourceError(f"Standard input is closed. {_HOW_TO}") from error
        if is_terminal:
            raise SourceError(f"Standard input is a terminal, not a pipe with sound. {_HOW_TO}")
        self.state = SourceState.RUNNING
        # A daemon: nothing can wake it while it waits for the pipe.
        threading.Thread(target=self._take_in, args=(fd,), name="standard input", daemon=True).start()

    def read(self) -> Capture | None:
        """As for every source. Raises SourceError if the pipe breaks, or its content is not raw PCM."""
        if self.state is not SourceState.RUNNING:
            return None
        chunks, ended = self._next_chunks()
        content = b"".join([self._rest, *chunks])
        if self._at_beginning and (len(content) >= 4 or (content and ended)):
            self._at_beginning = False
            self._check_is_raw(content)
        whole_bytes = 0 if self._at_beginning else len(content) - len(content) % self._frame_bytes
        self._rest = content[whole_bytes:]
        if whole_bytes == 0:
            if ended:
                self._end()
            return None
        samples, n_replaced = on_grid(_decoded(content[:whole_bytes], self._pcm_format, self._n_channels))
        self.replaced_samples += n_replaced
        return Capture(samples, self._rate_hz, 0, 0, self._captured_s)

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._chunks.clear()
            self._condition.notify()
        self.state = SourceState.ENDED

    def _next_chunks(self) -> tuple[list[bytes], bool]:
        """The oldest chunks, for one capture, and whether they are the last."""
        chunks: list[bytes] = []
        n_bytes = len(self._rest)
        with self._condition:
            while self._chunks and (not chunks or n_bytes + len(self._chunks[0][0]) <= self._capture_bytes):
                chunk, self._captured_s = self._chunks.popleft()
                chunks.append(chunk)
                n_bytes += len(chunk)
                self._queued_bytes -= len(chunk)
            self._condition.notify()
            return chunks, self._at_end and not self._chunks

    def _check_is_raw(self, content: bytes) -> None:
        for beginning, format_name in _OTHER_FORMATS.items():
            if content.startswith(beginning):
                self.close()
                raise SourceError(f"Standard input: expected raw PCM, got the {format_name} format. {_HOW_TO}")

    def _end(self) -> None:
        self.state = SourceState.ENDED
        if self._failure is not None:
            failure = self._failure
            raise SourceError(f"Standard input broke off: {failure.strerror or failure}.") from failure
        if self._rest:
            self.detail = (
                f"Standard input ended within a frame; its last {len(self._rest)} B were left out. "
                f"Is it really {self._n_channels} channels of {self._pcm_format}?"
            )
        elif self._at_beginning:
            self.detail = "Standard input ended without any sound."

    def _take_in(self, fd: int) -> None:
        """The thread: from the pipe into the queue."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closing or self._queued_bytes < self._queue_bytes)
                if self._closing:
                    return
                room_bytes = self._queue_bytes - self._queued_bytes
            try:
                chunk = os.read(fd, min(room_bytes, _READ_BYTES, self._capture_bytes))
            except BlockingIOError:
                # The pipe was set to non-blocking by another program.
                os.set_blocking(fd, True)
                continue
            except OSError as error:
                chunk, self._failure = b"", error
            with self._condition:
                if not chunk:
                    self._at_end = True
                    return
                self._chunks.append((chunk, time.monotonic()))
                self._queued_bytes += len(chunk)


def _decoded(content: bytes, pcm_format: str, n_channels: int) -> FloatArray:
    """Whole frames of PCM as float32, shape (n_samples, n_channels), full scale at -1 and 1."""
    values: FloatArray
    if pcm_format == "f32le":
        values = np.frombuffer(content, dtype="<f4").astype(np.float32)
    elif pcm_format == "s24le":
        # As the upper three bytes of 32-bit integers.
        padded = np.zeros((len(content) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3)
        values = padded.view("<i4").astype(np.float32) / np.float32(2**31)
    else:
        bits = 8 * _SAMPLE_BYTES[pcm_format]
        values = np.frombuffer(content, dtype=f"<i{bits // 8}").astype(np.float32) / np.float32(2 ** (bits - 1))
    return values.reshape(-1, n_channels)
