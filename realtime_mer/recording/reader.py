"""Reads a recording, without trusting any of its contents."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import soundfile
from msgspec import Meta, Struct

from realtime_mer import __version__
from realtime_mer.config import ConfigError, LiveSettings, load_settings
from realtime_mer.recording import (
    DROPS_FILE,
    DROPS_HEADER,
    FACTS_FILE,
    FORMAT_VERSION,
    PREDICTIONS_FILE,
    PREDICTIONS_HEADER,
    SETTINGS_FILE,
    Beginning,
    RecordingError,
    audio_name,
    reason_of,
)
from realtime_mer.recording.samples import from_pcm
from realtime_mer.sources import MAX_CHANNELS
from realtime_mer.types import LOWEST_RATE_HZ, FloatArray, Prediction
from realtime_mer.updates import Update

# FLAC files are read in pieces of libFLAC's block: of a damaged file, soundfile gives only the reads before it.
_FLAC_BLOCK_SAMPLES = 4096
# A month's recording stays below these. A larger file is not read.
_MAX_FACTS_BYTES = 2**22
_MAX_TABLE_BYTES = 2**28
_MAX_NUMBER = 10**15
# FLAC's own limit, and one for the numbers in file names.
_MAX_RATE_HZ = 655_350
_MAX_SEGMENT = 10**6

_HELD = {"false": False, "true": True}

_Count = Annotated[int, Meta(ge=0, le=_MAX_NUMBER)]
_Rating = Annotated[float, Meta(ge=-1, le=1)]


class _Began(Struct, frozen=True, forbid_unknown_fields=True):
    """The entry `began` of recording.json."""

    index: _Count
    time_s: Annotated[float, Meta(ge=0, le=_MAX_NUMBER)]
    valence: _Rating
    arousal: _Rating


class _Segment(Struct, forbid_unknown_fields=True):
    """One of the segments of recording.json. samples: per channel; None: it was cut off."""

    segment: Annotated[int, Meta(ge=0, le=_MAX_SEGMENT)]
    rate_hz: Annotated[int, Meta(ge=LOWEST_RATE_HZ, le=_MAX_RATE_HZ)]
    channels: Annotated[int, Meta(ge=1, le=MAX_CHANNELS)]
    samples: _Count | None


class _Facts(Struct):
    """recording.json. Recordings of earlier versions have neither `began` nor `open_end`."""

    realtime_mer_version: str
    checkpoint_sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    source: str
    started: str
    segments: list[_Segment]
    whole: bool
    fault: str
    began: _Began = _Began(0, 0.0, 0.0, 0.0)
    open_end: bool = False


class _Version(Struct):
    format_version: int


@dataclass(frozen=True, slots=True)
class Drop:
    """n_samples per channel that were lost right before the segment's recorded sample `at_sample`."""

    at_sample: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class RecordedSegment:
    """Sound without an interruption. n_samples: per channel; None for the last of a recording that was cut off."""

    segment: int
    path: Path
    rate_hz: int
    n_channels: int
    n_samples: int | None
    drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, checked as far as possible without decoding its sound.

    settings: those of the run. updates: the predictions, without latency. fault: why it is not whole, or empty.
    source, started: the source's name and the start time, as text for people. checkpoint_sha256: of the model's file.
    began: where in its run. open_end: whether it ends within a segment; then a replay has a few updates more.
    """

    directory: Path
    realtime_mer_version: str
    checkpoint_sha256: str
    source: str
    started: str
    settings: LiveSettings
    segments: tuple[RecordedSegment, ...]
    updates: tuple[Update, ...]
    fault: str
    began: Beginning
    open_end: bool


def read_recording(directory: Path) -> Recording:
    """The recording in the folder. Raises RecordingError, naming the folder, if anything is wrong with it.

    One that is not whole is read as far as it goes. File names are never taken from a file.
    """
    try:
        return _read(directory)
    except RecordingError as error:
        raise RecordingError(f"The recording {directory} cannot be used: {error}") from error
    except OSError as error:
        raise RecordingError(f"The recording {directory} cannot be used: {error.strerror or error}.") from error


def read_segment(segment: RecordedSegment) -> Generator[FloatArray, None, None]:
    """A segment's recorded samples, in pieces, float32, shape (n, n_channels).

    Raises RecordingError if some are missing; a segment that was cut off ends where its file does.
    """
    position = 0
    try:
        if segment.n_samples != 0:
            with _open_audio(segment) as file:
                while len(pcm := file.read(_FLAC_BLOCK_SAMPLES, dtype="int32", always_2d=True)):
                    yield from_pcm(pcm)
                    position += len(pcm)
    except (soundfile.SoundFileError, OSError) as error:
        if segment.n_samples is not None:
            raise RecordingError(f"{segment.path} is damaged after sample {position}: {reason_of(error)}.") from error
    if segment.n_samples not in (None, position):
        raise RecordingError(f"{segment.path} holds {position} samples, but should hold {segment.n_samples}.")


def _read(directory: Path) -> Recording:
    if not directory.is_dir():
        raise RecordingError("there is no such folder.")
    facts = _facts(_text(directory / FACTS_FILE, _MAX_FACTS_BYTES))
    whole, fault = facts.whole, _shown(facts.fault)
    if whole and fault:
        raise RecordingError(f"{FACTS_FILE} calls it whole, but has a fault: {fault}")
    began = Beginning(facts.began.index, facts.began.time_s, (facts.began.valence, facts.began.arousal))
    segments = _segments(directory, facts.segments, whole=whole)
    if not (directory / SETTINGS_FILE).is_file():
        raise RecordingError(f"{SETTINGS_FILE} is missing.")
    try:
        settings = load_settings(directory / SETTINGS_FILE, {})
    except ConfigError as error:
        raise RecordingError(str(error)) from error
    return Recording(
        directory,
        _shown(facts.realtime_mer_version),
        facts.checkpoint_sha256,
        _shown(facts.source),
        _shown(facts.started),
        settings,
        segments,
        _updates(directory / PREDICTIONS_FILE, began, whole=whole),
        fault if fault or whole else "The recording was cut off: realtime-mer did not come to its end.",
        began,
        facts.open_end,
    )


def _facts(text: str) -> _Facts:
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise RecordingError(
                f"it has the format version {version}, but realtime-mer {__version__} reads {FORMAT_VERSION}. "
                "Use the version of realtime-mer that made it."
            )
        return msgspec.json.decode(text, type=_Facts)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RecordingError(f"{FACTS_FILE} is not usable: {_shown(str(error))}.") from error


def _segments(directory: Path, entries: list[_Segment], *, whole: bool) -> tuple[RecordedSegment, ...]:
    segments: list[RecordedSegment] = []
    for i, entry in enumerate(entries):
        last = i + 1 == len(entries)
        segment = _segment(directory, entry, cut_off_allowed=last and not whole)
        if segments and segment.segment <= segments[-1].segment:
            raise RecordingError(f"{FACTS_FILE}: its segments are not in order.")
        segments.append(segment)
    drops: dict[int, list[Drop]] = {segment.segment: [] for segment in segments}
    for where, fields in _rows(directory / DROPS_FILE, DROPS_HEADER, whole=whole):
        number, at_sample, n_samples = (_whole_number(field, where) for field in fields)
        before = drops.get(number)
        # In a recording that was cut off, the segment may be missing.
        if before is None and whole:
            raise RecordingError(f"{where}: there is no segment {number}.")
        if before is not None:
            if n_samples == 0 or (before and at_sample < before[-1].at_sample):
                raise RecordingError(f"{where}: the drops are not in order, or empty.")
            before.append(Drop(at_sample, n_samples))
    for segment in segments:
        last_drop = drops[segment.segment][-1:]
        if segment.n_samples is not None and last_drop and last_drop[0].at_sample > segment.n_samples:
            raise RecordingError(f"{DROPS_FILE}: the segment {segment.segment} ends before its last drop.")
    return tuple(replace(segment, drops=tuple(drops[segment.segment])) for segment in segments)


def _segment(directory: Path, entry: _Segment, *, cut_off_allowed: bool) -> RecordedSegment:
    """The segment without its drops. Checks its file, unless it was cut off before the file had a header."""
    if entry.samples is None and not cut_off_allowed:
        raise RecordingError(f"{FACTS_FILE}: only the last segment of a recording that is not whole can be cut off.")
    path = directory / audio_name(entry.segment)
    segment = RecordedSegment(entry.segment, path, entry.rate_hz, entry.channels, entry.samples, ())
    if entry.samples == 0:
        return segment
    if not path.is_file():
        raise RecordingError(f"{path.name} is missing.")
    try:
        with _open_audio(segment) as file:
            expected = ("FLAC", "PCM_24", entry.rate_hz, entry.channels, entry.samples or file.frames)
            if (file.format, file.subtype, file.samplerate, file.channels, file.frames) != expected:
                raise RecordingError(f"{path.name} is not the file that {FACTS_FILE} describes.")
    except (soundfile.SoundFileError, OSError) as error:
        if entry.samples is not None:
            raise RecordingError(f"{path.name} cannot be read: {reason_of(error)}.") from error
    return segment


def _open_audio(segment: RecordedSegment) -> Any:
    """The segment's file, for reading from its beginning to its end."""
    # As bytes: a name that is no valid text in this locale opens too.
    file = soundfile.SoundFile(segment.path if os.name == "nt" else os.fsencode(segment.path))
    # After every read soundfile seeks to its position; in a file that breaks off that fails, and the read with it.
    file.seekable = lambda: False
    return file


def _updates(path: Path, began: Beginning, *, whole: bool) -> tuple[Update, ...]:
    updates: list[Update] = []
    time_s = began.time_s
    for where, (index, *numbers, held) in _rows(path, PREDICTIONS_HEADER, whole=whole):
        expected = began.index + len(updates)
        if _whole_number(index, where) != expected:
            raise RecordingError(f"{where}: expected the index {expected}, got {index}.")
        before_s = time_s
        time_s, valence, arousal = (_number(text, where) for text in numbers)
        if time_s < before_s or max(abs(valence), abs(arousal)) > 1.0 or held not in _HELD:
            raise RecordingError(f"{where}: times rise, valence and arousal lie in -1 to 1, and held is true or false.")
        updates.append(Update(expected, Prediction(time_s, valence, arousal), _HELD[held], None))
    return tuple(updates)


def _rows(path: Path, header: str, *, whole: bool) -> Generator[tuple[str, list[str]], None, None]:
    """The rows of a table without quotes, each with its place for messages."""
    content = _text(path, _MAX_TABLE_BYTES)
    # After the last line's end there may be a part of a line, from a full disk.
    end = content.rfind("\n") + 1
    if whole and end < len(content):
        raise RecordingError(f"{path.name} breaks off in its last line.")
    if (whole or end) and not content.startswith(f"{header}\n"):
        raise RecordingError(f"{path.name} does not begin with {header}.")
    # One by one: a list of short lines would need forty times the memory of the file.
    at, n_fields = len(header) + 1, header.count(",") + 1
    for i in itertools.count(2):
        if at >= end:
            return
        line_end = content.index("\n", at)
        # Split only as far as needed to see that there are too many fields.
        where, fields = f"{path.name}, line {i}", content[at:line_end].split(",", n_fields)
        at = line_end + 1
        if len(fields) != n_fields:
            raise RecordingError(f"{where}: its fields are not those of {header}.")
        yield where, fields


def _text(path: Path, max_bytes: int) -> str:
    """A whole file. Raises RecordingError if it is missing, too large or not text."""
    try:
        if not path.is_file():
            raise RecordingError(f"{path.name} is missing.")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise RecordingError(f"{path.name} is larger than {max_bytes // 2**20} MiB.")
        return content.decode("utf-8")
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path.name} is no text in UTF-8.") from error


def _whole_number(text: str, where: str) -> int:
    # Long numbers are not even converted.
    if not re.fullmatch("0|[1-9][0-9]{0,15}", text) or int(text) > _MAX_NUMBER:
        raise RecordingError(f"{where}: {_shown(text)!r} is no whole number from 0 to {_MAX_NUMBER}.")
    return int(text)


def _number(text: str, where: str) -> float:
    """A number in the form that Python writes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or repr(value) != text:
        raise RecordingError(f"{where}: {_shown(text)!r} is no number as a recording has them.")
    return value


def _shown(text: str) -> str:
    """A text from a file, shortened, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:200])
