"""Reads audio files, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import soundfile

from realtime_mer.errors import RealtimeMerError
from realtime_mer.types import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, AudioBlock

# Files are read in pieces of this size; any other gives the same features.
FILE_BLOCK_S = 0.5
# Of all channels together: of more than 20 at 384 kHz, the pieces are shorter.
MAX_BLOCK_VALUES = 2**22
_WHOLE_SHARE = 0.9


class AudioFileError(RealtimeMerError, ValueError):
    """A file that cannot be read as audio, or is too short to hold one frame."""


def read_blocks(path: Path) -> Iterator[AudioBlock]:
    """The audio of any file that soundfile reads, block by block.

    Raises AudioFileError, naming the file, when it is missing, is no audio, has a rate that sound never has, or breaks
    off.
    """
    try:
        # As bytes: a name that is no valid text in this locale opens too.
        with soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path)) as file:
            rate_hz, position = int(file.samplerate), 0
            if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
                raise AudioFileError(
                    f"{path} says that it has {rate_hz} samples per second; {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} are "
                    "taken."
                )
            block_samples = min(int(rate_hz * FILE_BLOCK_S), MAX_BLOCK_VALUES // file.channels)
            while len(samples := file.read(block_samples, dtype="float32", always_2d=True)):
                yield AudioBlock(samples, position / rate_hz, rate_hz)
                position += len(samples)
            # The length that an MP3 promises can be an estimate: only a good part missing says that the file broke off.
            if position < _WHOLE_SHARE * file.frames:
                raise AudioFileError(
                    f"{path} breaks off: it holds {position / rate_hz:.1f} of {file.frames / rate_hz:.1f} s."
                )
    # soundfile raises TypeError for a headerless .raw file, whose format it would have to be told.
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        # libsndfile's own words, without the name as bytes that soundfile puts before them.
        reason = getattr(error, "error_string", error)
        raise AudioFileError(f"{path} cannot be read as audio: {reason}") from error
