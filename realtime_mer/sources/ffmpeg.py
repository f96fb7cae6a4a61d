"""Reads with FFmpeg, by way of PyAV, what libsndfile does not read whole. Imported only for such a file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError, UndefinedError

from realtime_mer.sources.reading import AudioFileError, block_samples, check_length, checked_rate
from realtime_mer.types import AudioBlock, FloatArray

_OPTIONS = {
    # Only formats that hold the sound themselves: a playlist would open other files.
    "format_whitelist": "aac,ac3,eac3,aiff,ape,asf,caf,flac,matroska,webm,mov,mp3,ogg,tta,w64,wav,wv",
    "protocol_whitelist": "",
    # A WAV is read to the end of its bytes; no other format knows this option.
    "ignore_length": "1",
}
# Where the Xing or Info tag lies in the first frame of an MP3 of 1152 samples: stereo, mono.
_TAG_OFFSETS = (36, 21)
_MP3_RATES_HZ = (44_100, 48_000, 32_000)


def ffmpeg_blocks(path: Path, file: IO[bytes]) -> Iterator[AudioBlock]:
    """The audio of a file that is open at any position, block by block. Raises AudioFileError as read_blocks does."""
    guaranteed_s = _mp3_length_s(file)
    n_samples = 0
    rate_hz = 0
    try:
        for block in _blocks(path, file):
            yield block
            n_samples, rate_hz = n_samples + len(block.samples), block.rate_hz
    except FFmpegError as error:
        raise AudioFileError(f"{path} cannot be read as audio: {error.strerror}.") from error
    if n_samples:
        check_length(path, n_samples / rate_hz, guaranteed_s)


def packets_s(file: IO[bytes]) -> float:
    """The length of a file by its packets, without decoding them; infinite if FFmpeg cannot read it."""
    try:
        with _opened(file) as container:
            return float(sum((p.duration or 0) * (p.time_base or 0) for p in container.demux(audio=0)))
    except (FFmpegError, IndexError):
        return float("inf")


def _blocks(path: Path, file: IO[bytes]) -> Iterator[AudioBlock]:
    waiting: list[FloatArray] = []
    n_waiting = position = rate_hz = 0
    with _opened(file) as container:
        for samples, frame_rate_hz in _frames(path, container):
            if rate_hz not in (0, frame_rate_hz):
                raise AudioFileError(f"{path} cannot be read as audio: its rate changes from {rate_hz} Hz within it.")
            rate_hz = checked_rate(path, frame_rate_hz)
            waiting.append(samples)
            n_waiting += len(samples)
            n_block = block_samples(rate_hz, samples.shape[1])
            while n_waiting >= n_block:
                joined = np.concatenate(waiting)
                yield AudioBlock(joined[:n_block], position / rate_hz, rate_hz)
                waiting, n_waiting, position = [joined[n_block:]], n_waiting - n_block, position + n_block
    if n_waiting:
        yield AudioBlock(np.concatenate(waiting), position / rate_hz, rate_hz)


def _frames(path: Path, container: InputContainer) -> Iterator[tuple[FloatArray, int]]:
    """Each decoded frame's samples, shape (n_samples, n_channels), and rate. Raises AudioFileError at a cut end."""
    if not container.streams.audio:
        raise AudioFileError(f"{path} cannot be read as audio: expected sound, got none.")
    stream = container.streams.audio[0]
    n_channels = 0
    fails = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        # A bad packet in the middle, such as a tag between two songs, is left out; at the end, the file was cut there.
        except (InvalidDataError, UndefinedError):
            fails = True
            continue
        for frame in frames:
            fails = False
            if n_channels not in (0, frame.layout.nb_channels):
                raise AudioFileError(f"{path} cannot be read as audio: its number of channels changes within it.")
            n_channels = frame.layout.nb_channels
            yield _samples(frame), frame.sample_rate
    if fails:
        raise AudioFileError(f"{path} is cut short: its last data cannot be decoded.")


def _samples(frame: av.AudioFrame) -> FloatArray:
    """As float32, shape (n_samples, n_channels), full scale at -1 and 1."""
    values = frame.to_ndarray()
    channels = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if channels.dtype == np.uint8:
        return (channels.astype(np.float32) - 128.0) / np.float32(128.0)
    if channels.dtype.kind == "f":
        return channels.astype(np.float32)
    samples: FloatArray = (channels / 2.0 ** (8 * channels.dtype.itemsize - 1)).astype(np.float32)
    return samples


class _Readable:
    """The file as FFmpeg reads it. An impossible position gives -1, not an exception, which PyAV would print."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read = file.read
        self._file = file
        if file.seekable():
            self.seek, self.tell = self._seek, file.tell

    def _seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _opened(file: IO[bytes]) -> InputContainer:
    if file.seekable():
        file.seek(0)
    return av.open(_Readable(file), mode="r", options=_OPTIONS, metadata_errors="replace")


def _mp3_length_s(file: IO[bytes]) -> float:
    """The length that the Xing or Info tag of an MP3 guarantees; 0 if it has none."""
    if not file.seekable():
        return 0.0
    file.seek(0)
    head = file.read(10)
    id3_bytes = 10 + sum(byte << 7 * i for i, byte in enumerate(reversed(head[6:10]))) if head[:3] == b"ID3" else 0
    file.seek(id3_bytes)
    frame = file.read(64)
    for offset in _TAG_OFFSETS:
        # The last bit of the flags: whether the tag has the number of frames.
        if frame[offset : offset + 4] in (b"Xing", b"Info") and len(frame) == 64 and frame[offset + 7] & 1:
            (n_frames,) = struct.unpack(">I", frame[offset + 8 : offset + 12])
            rate_index = frame[2] >> 2 & 3
            return 1152.0 * n_frames / _MP3_RATES_HZ[rate_index] if rate_index < 3 else 0.0
    return 0.0
