"""Reads audio files to their real end, block by block. What the bytes hold counts, not the length in the header.

libsndfile reads the files that it reads whole; FFmpeg (sources/ffmpeg.py) reads all others: MP3, AAC, WMA, Ogg files
made of several streams, files whose header has no length or a wrong one, and pipes.
"""

from __future__ import annotations

import os
import re
import select
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import soundfile

from realtime_mer.errors import RealtimeMerError
from realtime_mer.types import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, AudioBlock

# Files are read in pieces of this size; any other gives the same features.
FILE_BLOCK_S = 0.5
# Of all channels together: with more than 20 at 384 kHz, the pieces are shorter.
MAX_BLOCK_VALUES = 2**22
# The suffixes that a folder is searched for. RAW is no format of its own: nothing in such a file says what is in it.
AUDIO_SUFFIXES = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"}
    | {".mp3", ".ogg", ".oga", ".opus", ".flac", ".wav", ".wave", ".aif", ".aiff", ".aifc", ".snd"}
    | {".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".ac3", ".eac3", ".ape", ".wv", ".tta"}
)

# A header that promises much more than there is means that the file was cut short.
_WHOLE_SHARE = 0.9
# libsndfile reads an Ogg file only if the length that it finds is that of the file's packets to this.
_SAME_LENGTH_S = 0.5
# If a FLAC header has no length, as in a stream, libsndfile reports thousands of years.
_UNKNOWN_LENGTH_S = 1e9


# A pipe's writer may have to start first, or to download something.
_PIPE_TIMEOUT_S = 20.0


class AudioFileError(RealtimeMerError, ValueError):
    """A file that cannot be read as audio, or is too short to hold one frame."""


def missing_file(path: Path) -> str:
    """Why a file that does not exist cannot be read, in a sentence."""
    # pathlib has made one slash of two.
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        address = str(path).replace(":/", "://", 1)
        return f"{address} is a web address. Download the file first, and give its name."
    return f"{path}: there is no such file."


def read_blocks(path: Path) -> Iterator[AudioBlock]:
    """The audio of a file, block by block, to its real end.

    Raises AudioFileError, naming the file, if it is missing, is no audio, has a rate outside 1,000 to 768,000 Hz, or is
    cut short: the decoder fails at its end, or the format guarantees a length that is not there.
    """
    try:
        # Unbuffered: libsndfile moves the position of the same open file.
        with open(path, "rb", buffering=0, opener=_open) as file:
            if file.seekable() and _libsndfile_reads(file):
                yield from _libsndfile_blocks(path, file)
            else:
                # Late: importing it takes an eighth of a second.
                from realtime_mer.sources.ffmpeg import ffmpeg_blocks

                yield from ffmpeg_blocks(path, file)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        # The library's own words, without the name and the numbers before them.
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        raise AudioFileError(f"{path} cannot be read as audio: {str(reason).rstrip('.')}.") from error


def is_read_by_libsndfile(path: Path) -> bool:
    """Whether libsndfile, which can start at any sample, reads all of this file. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return _libsndfile_reads(file)


def _open(path: str, flags: int) -> int:
    """Opens a file for reading. Raises AudioFileError if it is a pipe into which nothing is written for a while."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            # Not a blocking open, which would wait for a writer without a limit.
            if not select.select([descriptor], [], [], _PIPE_TIMEOUT_S)[0]:
                raise AudioFileError(f"{path}: nothing was written into this pipe for {_PIPE_TIMEOUT_S:g} s.")
            os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def checked_rate(path: Path, rate_hz: int) -> int:
    """The rate. Raises AudioFileError if it is out of range."""
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioFileError(
            f"{path} has {rate_hz} samples per second; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}."
        )
    return int(rate_hz)


def block_samples(rate_hz: int, n_channels: int) -> int:
    """How many samples per channel a block has."""
    return min(int(rate_hz * FILE_BLOCK_S), MAX_BLOCK_VALUES // n_channels)


def check_length(path: Path, found_s: float, expected_s: float) -> None:
    """Raises AudioFileError if much is missing of the length that the format guarantees."""
    if found_s < _WHOLE_SHARE * expected_s:
        raise AudioFileError(f"{path} is cut short: expected {expected_s:.1f} s, got {found_s:.1f} s.")


def _libsndfile_reads(file: IO[bytes]) -> bool:
    """Whether libsndfile reads all of this file."""
    head = file.read(3)
    # libsndfile stops early in some MP3s, and prints warnings about them.
    if head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return False
    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            file_format, length_s = sound.format, sound.frames / sound.samplerate
    except (soundfile.SoundFileError, RuntimeError):
        return False
    if not 0.0 < length_s < _UNKNOWN_LENGTH_S or file_format in ("MP3", "MPEG"):
        return False
    if file_format == "OGG":
        from realtime_mer.sources.ffmpeg import packets_s

        return bool(abs(packets_s(file) - length_s) < _SAME_LENGTH_S)
    if file_format in ("WAV", "WAVEX"):
        return _wav_length_is_right(file)
    return True


def _libsndfile_blocks(path: Path, file: IO[bytes]) -> Iterator[AudioBlock]:
    file.seek(0)
    with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
        rate_hz, position = checked_rate(path, sound.samplerate), 0
        while len(samples := sound.read(block_samples(rate_hz, sound.channels), dtype="float32", always_2d=True)):
            yield AudioBlock(samples, position / rate_hz, rate_hz)
            position += len(samples)
        check_length(path, position / rate_hz, sound.frames / rate_hz)


def _wav_length_is_right(file: IO[bytes]) -> bool:
    """Whether a WAV's data ends where its header says: at the end of the file, or where another chunk begins."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        file.seek(length + length % 2, os.SEEK_CUR)
        if name == b"data":
            following = file.read(4)
            return not following or (following.isascii() and following.decode("ascii").isprintable())
    return True
