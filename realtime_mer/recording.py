"""Recordings: a folder with the sound that was heard, bit for bit, and what was predicted from it.

settings.toml: the settings in force. recording.json: what made it, its segments, and whether it is whole.
audio-000.flac, …: each segment's sound, 24 bits, with the segment's own rate and channels.
drops.csv: where sound was lost to overload, so that a replay has the same stream times.
predictions.csv: every update; its numbers, read as floats, are those that went out, to the last bit.
events.csv: what happened to the source and its level, by stream time and time of day; for people.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime
from io import SEEK_SET, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from realtime_mer import __version__
from realtime_mer.atomic import write_atomically
from realtime_mer.config import ConfigError, LiveSettings, load_settings, settings_toml
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import STEPS
from realtime_mer.status import Status, Update
from realtime_mer.types import FloatArray

FORMAT_VERSION = 1
# FLAC's own limits, and one for the numbers in file names.
MAX_CHANNELS = 8
_MAX_RATE_HZ = 655_350
_MAX_SEGMENT = 10**6

# How much may wait for the disk, in sound and in entries of all kinds.
_QUEUE_S = 20.0
_QUEUE_ENTRIES = 2**17
# How often what waits is written, and how much of it does not wait for that.
_FLUSH_S = 1.0
_EARLY_S = 5.0
# A disk that is slower than this is given up at the end.
_CLOSE_TIMEOUT_S = 5.0

# FLAC files are read in pieces of libFLAC's block: of a damaged file, soundfile gives only the reads before it.
_FLAC_BLOCK_SAMPLES = 4096
# 24-bit samples are the upper three bytes of the integers that soundfile takes and gives.
_UNUSED_BITS = 8
# A month's recording stays below these; whatever is larger is something else, and is not read at all.
_MAX_FACTS_BYTES = 2**24
_MAX_TABLE_BYTES = 2**28
_MAX_NUMBER = 10**15

_SETTINGS, _FACTS = "settings.toml", "recording.json"
_PREDICTIONS, _PREDICTIONS_HEADER = "predictions.csv", "index,time_s,valence,arousal,held"
_DROPS, _DROPS_HEADER = "drops.csv", "segment,at_sample,dropped_samples"
_EVENTS, _EVENTS_HEADER = "events.csv", "time_s,time_of_day,state,level,detail"
_HELD = {"false": False, "true": True}


class RecordingError(RuntimeError):
    """A folder that cannot be recorded into, or that holds no recording that can be used."""


# ---- making one -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    """A row of events.csv."""

    time_s: float
    time_of_day: str
    state: str
    level: str
    detail: str


_Entry = Capture | Update | _Event


class Recorder:
    """The sink that records: `heard` takes the sound, `update` and `status` what came of it.

    None of them waits: a thread writes, at most a second later. Where it cannot (the disk is full or too slow, the
    folder is gone), the recording stops there and what it holds until then can be replayed; `fault` says why, `lost_s`
    counts the sound that came since, and everything else goes on.

    directory: where to; it must be empty, or not exist yet. checkpoint_sha256: of the model's file, in hexadecimal.
    Raises RecordingError where the folder cannot be used; nothing there is ever overwritten.
    """

    def __init__(self, directory: Path, settings: LiveSettings, source_name: str, checkpoint_sha256: str) -> None:
        facts = {
            "format_version": FORMAT_VERSION,
            "realtime_mer_version": __version__,
            "checkpoint_sha256": checkpoint_sha256,
            "source": source_name,
            "started": _time_of_day(),
        }
        try:
            _make_empty(directory)
            self._folder = _Folder(directory, settings, facts)
        except OSError as error:
            raise RecordingError(f"{directory} cannot be recorded into: {error.strerror or error}.") from error
        self.directory = directory
        self.fault = ""
        self._condition = threading.Condition()
        self._entries: deque[_Entry] = deque()
        self._queued_s = 0.0
        self._taken_s = 0.0
        self._lost_s = 0.0
        self._stopped = False
        self._closing = False
        self._last_event: tuple[str, str, str] | None = None
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    @property
    def lost_s(self) -> float:
        """How much sound came since the recording stopped, and is not in it."""
        return self._lost_s

    def heard(self, capture: Capture) -> None:
        """Sound, in the order in which it is recognised; its samples must not be changed afterwards."""
        self._put(capture, _duration_s(capture))

    def update(self, update: Update) -> None:
        self._put(update, 0.0)

    def status(self, status: Status) -> None:
        event = (str(status.state), "" if status.level is None else str(status.level.state), status.detail)
        if event != self._last_event:
            self._last_event = event
            self._put(_Event(status.time_s, _time_of_day(), *event), 0.0)

    def close(self) -> None:
        with self._condition:
            self._closing = self._stopped = True
            self._condition.notify()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self.fault = self.fault or self._fault_text("the disk did not take its end")

    def _put(self, entry: _Entry, duration_s: float) -> None:
        with self._condition:
            full = self._queued_s + duration_s > _QUEUE_S or len(self._entries) >= _QUEUE_ENTRIES
            if full and not self._stopped:
                # Without a gap in it, it can be replayed until here.
                self._stopped = True
                self.fault = self._fault_text("the disk is too slow")
            if self._stopped:
                self._lost_s += duration_s
                return
            self._entries.append(entry)
            self._queued_s += duration_s
            self._taken_s += duration_s
            if self._queued_s > _EARLY_S:
                self._condition.notify()

    def _fault_text(self, reason: str) -> str:
        return (
            f"The recording stopped after {self._taken_s:.1f} s of sound: {reason}. "
            "What it holds until then can be replayed."
        )

    def _write(self) -> None:
        """The thread."""
        try:
            closing = False
            while not closing:
                with self._condition:
                    self._condition.wait_for(lambda: self._closing or self._queued_s > _EARLY_S, _FLUSH_S)
                    closing = self._closing
                self._write_queued()
            self._folder.finish(self.fault, self._lost_s)
        # Whatever happens here, the music goes on.
        except Exception as error:  # noqa: BLE001
            self._fail(_reason(error))
            self._folder.abandon()
            with self._condition:
                self._condition.wait_for(lambda: self._closing)
            # Perhaps the disk takes this again.
            with contextlib.suppress(OSError):
                self._folder.write_facts(self.fault, self._lost_s)

    def _write_queued(self) -> None:
        while self._entries:
            # An entry counts as queued until it is written.
            entry = self._entries[0]
            self._folder.write(entry)
            with self._condition:
                self._entries.popleft()
                self._queued_s -= _duration_s(entry)
        self._folder.flush()

    def _fail(self, reason: str) -> None:
        with self._condition:
            self._stopped = True
            self._taken_s -= self._queued_s
            self._lost_s += self._queued_s
            self._queued_s = 0.0
            self._entries.clear()
            self.fault = self.fault or self._fault_text(reason)


def _duration_s(entry: _Entry) -> float:
    return len(entry.samples) / entry.rate_hz if isinstance(entry, Capture) else 0.0


def _time_of_day() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _reason(error: Exception) -> str:
    """Why, without a full stop."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # libsndfile's own words.
    return str(getattr(error, "error_string", error)).rstrip(".")


def _make_empty(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise RecordingError(f"{directory} is a file; a recording needs a folder of its own.")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise RecordingError(f"The folder {directory} is not empty, and nothing in it is overwritten: name a new one.")


class _Folder:
    """The files of a recording that is being made. What cannot be written raises, mostly OSError."""

    def __init__(self, directory: Path, settings: LiveSettings, facts: dict[str, Any]) -> None:
        self._directory = directory
        self._facts = facts
        self._segments: list[dict[str, int | None]] = []
        self._audio: _AudioFile | None = None
        (directory / _SETTINGS).write_text(settings_toml(settings), encoding="utf-8", newline="\n")
        self._predictions = _Table(directory / _PREDICTIONS, _PREDICTIONS_HEADER)
        self._drops = _Table(directory / _DROPS, _DROPS_HEADER)
        self._events = _Table(directory / _EVENTS, _EVENTS_HEADER)
        self.write_facts("", 0.0, whole=False)

    def write(self, entry: _Entry) -> None:
        if isinstance(entry, Capture):
            self._write_capture(entry)
        elif isinstance(entry, Update):
            held = "true" if entry.held else "false"
            numbers = (float(entry.time_s), float(entry.valence), float(entry.arousal))
            self._predictions.add(f"{entry.index},{','.join(map(repr, numbers))},{held}")
        else:
            words = (_quoted(word) for word in (entry.time_of_day, entry.state, entry.level, entry.detail))
            self._events.add(f"{entry.time_s:.3f},{','.join(words)}")

    def flush(self) -> None:
        """Whatever was written has left this process, and its files are still there."""
        if self._audio is not None:
            self._audio.check()
        for table in (self._predictions, self._drops, self._events):
            table.flush()

    def finish(self, fault: str, lost_s: float) -> None:
        """Ends every file, and says that the recording is whole, if it is."""
        self._finish_segment()
        for table in (self._predictions, self._drops, self._events):
            table.flush()
            table.close()
        self.write_facts(fault, lost_s, whole=not fault)

    def abandon(self) -> None:
        """Closes every file as it is."""
        for file in (self._audio, self._predictions, self._drops, self._events):
            # What was wrong with it was said before.
            with contextlib.suppress(OSError, soundfile.SoundFileError):
                if file is not None:
                    file.close()

    def write_facts(self, fault: str, lost_s: float, *, whole: bool = False) -> None:
        """recording.json, whole or not at all."""
        facts = self._facts | {"segments": self._segments, "whole": whole, "fault": fault, "lost_s": lost_s}
        write_atomically(self._directory / _FACTS, (json.dumps(facts, indent=2) + "\n").encode())

    def _write_capture(self, capture: Capture) -> None:
        n_samples, n_channels = capture.samples.shape
        if self._audio is None or capture.segment != self._segments[-1]["segment"]:
            self._finish_segment()
            path = self._directory / _audio_name(capture.segment)
            self._audio = _AudioFile(path, capture.rate_hz, n_channels)
            self._segments.append(
                {"segment": capture.segment, "rate_hz": capture.rate_hz, "channels": n_channels, "samples": None}
            )
            self.write_facts("", 0.0)
        if capture.dropped_samples:
            self._drops.add(f"{capture.segment},{self._audio.n_samples},{capture.dropped_samples}")
        if n_samples:
            self._audio.write(_to_pcm(capture.samples))

    def _finish_segment(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._segments[-1]["samples"] = self._audio.n_samples
            self._audio = None


class _File:
    """A new file. After an error it takes nothing more; `check` raises that error, or says that the file is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without a buffer, an error comes with the write that it belongs to.
        self._raw = FileIO(path, "xb")
        self._error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Returns how many bytes were taken, all or none; libsndfile could pass no error on."""
        if self._error is not None:
            return 0
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self._error = error
            return 0
        return len(content)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def check(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._path.exists():
            raise OSError(f"{self._path.name} was removed")

    def close(self) -> None:
        """Raises what `check` would."""
        try:
            self.check()
            os.fsync(self._raw.fileno())
        finally:
            self._raw.close()


class _AudioFile:
    """A new FLAC file of 24 bits. `close` raises where not all of it was written."""

    def __init__(self, path: Path, rate_hz: int, n_channels: int) -> None:
        self.n_samples = 0
        self._file = _File(path)
        # Until its first samples it has no bytes.
        self._sound = soundfile.SoundFile(self._file, "w", rate_hz, n_channels, "PCM_24", format="FLAC")

    def write(self, pcm: npt.NDArray[np.int32]) -> None:
        """pcm: shape (n_samples, n_channels), as `_to_pcm` gives it."""
        try:
            self._sound.write(pcm)
        # soundfile asserts that everything was taken; the file knows why not.
        except (soundfile.SoundFileError, AssertionError):
            self._file.check()
            raise
        self.n_samples += len(pcm)

    def check(self) -> None:
        self._file.check()

    def close(self) -> None:
        try:
            self._sound.close()
        finally:
            self._file.close()


class _Table:
    """A new CSV file; its lines are whole ones unless the disk is full."""

    def __init__(self, path: Path, header: str) -> None:
        self._file = _File(path)
        self._lines = [header]
        self.flush()

    def add(self, line: str) -> None:
        self._lines.append(line)

    def flush(self) -> None:
        content = "".join(f"{line}\n" for line in self._lines).encode("utf-8", "backslashreplace")
        self._lines.clear()
        self._file.write(content)
        self._file.check()

    def close(self) -> None:
        self._file.close()


def _quoted(text: str) -> str:
    """A text as a CSV field on one line."""
    escaped = " ".join(text.split()).replace('"', '""')
    return f'"{escaped}"'


def _audio_name(segment: int) -> str:
    return f"audio-{segment:03d}.flac"


def _to_pcm(samples: FloatArray) -> npt.NDArray[np.int32]:
    """Samples on the 24-bit grid as the integers that soundfile writes exactly; its own scale for floats is not exact.

    Raises ValueError for any other sample.
    """
    steps = samples * np.float32(STEPS)
    pcm: npt.NDArray[np.int32] = np.clip(np.nan_to_num(steps), -STEPS, STEPS - 1).astype(np.int32)
    if not np.array_equal(pcm, steps):
        raise ValueError("a sample was not one of the 24-bit values that a recording can hold")
    pcm <<= _UNUSED_BITS
    return pcm


def _from_pcm(pcm: npt.NDArray[np.int32]) -> FloatArray:
    samples: FloatArray = (pcm >> _UNUSED_BITS).astype(np.float32) / np.float32(STEPS)
    return samples


# ---- reading one ----------------------------------------------------------------------------------------------------


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
    """A recording, checked as far as that goes without decoding its sound.

    settings: those in force then. updates: what was predicted, with no latency. fault: why it is not whole, or nothing.
    source, started: the source's name, and when, as text for people. checkpoint_sha256: of the model's file.
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


def read_recording(directory: Path) -> Recording:
    """The recording in the folder. Raises RecordingError, naming the folder, for whatever is wrong with it.

    One that is not whole is read as far as it goes. File names are this module's own, never those in a file.
    """
    try:
        return _read(directory)
    except RecordingError as error:
        raise RecordingError(f"The recording {directory} cannot be used: {error}") from error
    except OSError as error:
        raise RecordingError(f"The recording {directory} cannot be used: {error.strerror or error}.") from error


def read_segment(segment: RecordedSegment) -> Generator[FloatArray, None, None]:
    """A segment's samples as they were heard, in pieces, float32, shape (n, n_channels).

    Raises RecordingError where they are not all there; those of a segment that was cut off end where it breaks off.
    """
    position = 0
    try:
        if segment.n_samples != 0:
            with _open_audio(segment) as file:
                while len(pcm := file.read(_FLAC_BLOCK_SAMPLES, dtype="int32", always_2d=True)):
                    yield _from_pcm(pcm)
                    position += len(pcm)
    except (soundfile.SoundFileError, OSError) as error:
        if segment.n_samples is not None:
            raise RecordingError(f"{segment.path} is damaged after sample {position}: {_reason(error)}.") from error
    if segment.n_samples not in (None, position):
        raise RecordingError(f"{segment.path} holds {position} samples, but should hold {segment.n_samples}.")


def _read(directory: Path) -> Recording:
    if not directory.is_dir():
        raise RecordingError("there is no such folder.")
    facts = _Facts(_text(directory / _FACTS, _MAX_FACTS_BYTES))
    whole = facts.entry("whole", bool)
    fault = _shown(facts.entry("fault", str))
    if whole and fault:
        raise RecordingError(f"{_FACTS} says that it is whole, and that it is not.")
    checkpoint_sha256 = facts.entry("checkpoint_sha256", str)
    if not re.fullmatch("[0-9a-f]{64}", checkpoint_sha256):
        raise RecordingError(f"{_FACTS}: checkpoint_sha256 is no SHA-256 in hexadecimal.")
    segments = _segments(directory, facts.entry("segments", list), whole=whole)
    if not (directory / _SETTINGS).is_file():
        raise RecordingError(f"{_SETTINGS} is missing.")
    try:
        settings = load_settings(directory / _SETTINGS, {})
    except ConfigError as error:
        raise RecordingError(str(error)) from error
    return Recording(
        directory,
        _shown(facts.entry("realtime_mer_version", str)),
        checkpoint_sha256,
        _shown(facts.entry("source", str)),
        _shown(facts.entry("started", str)),
        settings,
        segments,
        _updates(directory / _PREDICTIONS, whole=whole),
        fault if fault or whole else "The recording was cut off: realtime-mer did not come to its end.",
    )


class _Facts:
    """What recording.json says, of this format's version. Raises RecordingError for anything else."""

    def __init__(self, text: str) -> None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"{_FACTS} is no usable JSON: {error}.") from error
        if not isinstance(values, dict):
            raise RecordingError(f"{_FACTS} holds no object.")
        self._values = values
        version = self.entry("format_version", int)
        if version != FORMAT_VERSION:
            raise RecordingError(
                f"it has the format version {version}, but realtime-mer {__version__} reads {FORMAT_VERSION}. "
                "Use the version of realtime-mer that made it."
            )

    def entry(self, name: str, kind: type) -> Any:
        if name not in self._values:
            raise RecordingError(f"{_FACTS} has no {name}.")
        value = self._values[name]
        if type(value) is not kind:
            raise RecordingError(f"{_FACTS}: {name} is of the type {type(value).__name__}, not {kind.__name__}.")
        return value


def _segments(directory: Path, entries: list[Any], *, whole: bool) -> tuple[RecordedSegment, ...]:
    segments: list[RecordedSegment] = []
    for i, entry in enumerate(entries):
        last = i + 1 == len(entries)
        segment = _segment(directory, entry, cut_off_allowed=last and not whole)
        if segments and segment.segment <= segments[-1].segment:
            raise RecordingError(f"{_FACTS}: its segments are not in order.")
        segments.append(segment)
    drops: dict[int, list[Drop]] = {segment.segment: [] for segment in segments}
    for where, fields in _rows(directory / _DROPS, _DROPS_HEADER, whole=whole):
        number, at_sample, n_samples = (_whole_number(field, where) for field in fields)
        before = drops.get(number)
        # Of a recording that was cut off, the segment may be missing.
        if before is None and whole:
            raise RecordingError(f"{where}: there is no segment {number}.")
        if before is not None:
            if n_samples == 0 or (before and at_sample < before[-1].at_sample):
                raise RecordingError(f"{where}: the drops are not in order, or empty.")
            before.append(Drop(at_sample, n_samples))
    for segment in segments:
        last_drop = drops[segment.segment][-1:]
        if segment.n_samples is not None and last_drop and last_drop[0].at_sample > segment.n_samples:
            raise RecordingError(f"{_DROPS}: the segment {segment.segment} ends before its last drop.")
    return tuple(replace(segment, drops=tuple(drops[segment.segment])) for segment in segments)


def _segment(directory: Path, entry: Any, *, cut_off_allowed: bool) -> RecordedSegment:
    """Without its drops; its file is there and fits, unless it was cut off before that had a beginning."""
    names = ("segment", "rate_hz", "channels", "samples")
    if not isinstance(entry, dict) or set(entry) != set(names):
        raise RecordingError(f"{_FACTS}: each of its segments has {', '.join(names)}, and no more.")
    number, rate_hz, n_channels, n_samples = (entry[name] for name in names)
    if n_samples is None and not cut_off_allowed:
        raise RecordingError(f"{_FACTS}: only the last segment of a recording that is not whole can be cut off.")
    for name, value, lowest, highest in (
        ("segment", number, 0, _MAX_SEGMENT),
        ("rate_hz", rate_hz, 1, _MAX_RATE_HZ),
        ("channels", n_channels, 1, MAX_CHANNELS),
        ("samples", n_samples or 0, 0, _MAX_NUMBER),
    ):
        if type(value) is not int or not lowest <= value <= highest:
            raise RecordingError(f"{_FACTS}: {name} of a segment is a whole number from {lowest} to {highest}.")
    segment = RecordedSegment(number, directory / _audio_name(number), rate_hz, n_channels, n_samples, ())
    if n_samples == 0:
        return segment
    if not segment.path.is_file():
        raise RecordingError(f"{segment.path.name} is missing.")
    try:
        with _open_audio(segment) as file:
            found = (file.format, file.subtype, file.samplerate, file.channels)
            if found != ("FLAC", "PCM_24", rate_hz, n_channels) or (n_samples is not None and file.frames != n_samples):
                raise RecordingError(f"{segment.path.name} is not the file that {_FACTS} says it is.")
    except (soundfile.SoundFileError, OSError) as error:
        if n_samples is not None:
            raise RecordingError(f"{segment.path.name} cannot be read: {_reason(error)}.") from error
    return segment


def _open_audio(segment: RecordedSegment) -> Any:
    """The segment's file, for reading from its beginning to its end."""
    # As bytes: a name that is no valid text in this locale opens too.
    file = soundfile.SoundFile(segment.path if os.name == "nt" else os.fsencode(segment.path))
    # After every read, soundfile seeks to where it is; where a file breaks off, that fails, and takes the read with it.
    file.seekable = lambda: False
    return file


def _updates(path: Path, *, whole: bool) -> tuple[Update, ...]:
    updates: list[Update] = []
    time_s = 0.0
    for where, (index, *numbers, held) in _rows(path, _PREDICTIONS_HEADER, whole=whole):
        if _whole_number(index, where) != len(updates):
            raise RecordingError(f"{where}: its index is {index}, where {len(updates)} is next.")
        before_s = time_s
        time_s, valence, arousal = (_number(text, where) for text in numbers)
        if time_s < before_s or max(abs(valence), abs(arousal)) > 1.0 or held not in _HELD:
            raise RecordingError(f"{where}: times rise, valence and arousal lie in -1 to 1, and held is true or false.")
        updates.append(Update(len(updates), time_s, valence, arousal, _HELD[held], None))
    return tuple(updates)


def _rows(path: Path, header: str, *, whole: bool) -> Generator[tuple[str, list[str]], None, None]:
    """The rows of a table without quotes, each with where it is."""
    lines = _text(path, _MAX_TABLE_BYTES).split("\n")
    # What stands behind the last line's end: nothing, or what a full disk still took of a line.
    if lines.pop() and whole:
        raise RecordingError(f"{path.name} breaks off in its last line.")
    if lines[:1] != [header] and (whole or lines):
        raise RecordingError(f"{path.name} does not begin with {header}.")
    for i, line in enumerate(lines[1:], start=2):
        where, fields = f"{path.name}, line {i}", line.split(",")
        if len(fields) != header.count(",") + 1:
            raise RecordingError(f"{where}: it has {len(fields)} fields, not those of {header}.")
        yield where, fields


def _text(path: Path, max_bytes: int) -> str:
    """A whole file. Raises RecordingError where it is missing, too large or no text."""
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
    # Long digits are not even converted.
    if not re.fullmatch("0|[1-9][0-9]{0,15}", text) or int(text) > _MAX_NUMBER:
        raise RecordingError(f"{where}: {_shown(text)!r} is no whole number from 0 to {_MAX_NUMBER}.")
    return int(text)


def _number(text: str, where: str) -> float:
    """Only as Python writes it: then it is the number that was written."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or repr(value) != text:
        raise RecordingError(f"{where}: {_shown(text)!r} is no number as a recording has them.")
    return value


def _shown(text: str) -> str:
    """A text from a file, fit for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:200])


# ---- comparing with one ---------------------------------------------------------------------------------------------


class ReplayCheck:
    """The sink that compares a replay's updates with the recorded ones: equal to the last bit, but for the latency."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._n_updates = 0
        self._n_different = 0
        self._largest_difference = 0.0
        self._first_difference = ""

    def update(self, update: Update) -> None:
        number = self._n_updates
        self._n_updates += 1
        if number >= len(self._recording.updates):
            return
        recorded, replayed = self._recording.updates[number], replace(update, latency_s=None)
        if replayed != recorded:
            self._n_different += 1
            differences = (replayed.valence - recorded.valence, replayed.arousal - recorded.arousal)
            self._largest_difference = max(self._largest_difference, *map(abs, differences))
            self._first_difference = self._first_difference or f"{_values(recorded)} then, {_values(replayed)} now"

    def status(self, status: Status) -> None:
        """Nothing: only predictions are compared."""

    def close(self) -> None:
        """Nothing: `verdict` works before and after."""

    @property
    def identical(self) -> bool:
        """Whether the replay gave what was recorded: all of it, and no more, where the recording is whole."""
        as_many = self._n_updates == len(self._recording.updates)
        return self._n_different == 0 and (as_many or bool(self._recording.fault))

    def verdict(self) -> str:
        """What came out, in a sentence or two."""
        n_recorded = len(self._recording.updates)
        n_compared = min(self._n_updates, n_recorded)
        counts = "" if self._n_updates == n_recorded else f" {n_recorded} were recorded, {self._n_updates} replayed."
        if self._n_different:
            return (
                f"{self._n_different} of {n_compared} predictions differ from the recorded ones, by "
                f"{self._largest_difference:.3g} at most. The first: {self._first_difference}.{counts}"
            )
        return f"All {n_compared} predictions that were compared are identical to the recorded ones.{counts}"


def _values(update: Update) -> str:
    held = ", held" if update.held else ""
    return f"index {update.index} at {update.time_s!r} s: {update.valence!r}, {update.arousal!r}{held}"
