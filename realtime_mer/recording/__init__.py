"""Recordings: a folder with the input's sound, bit for bit, and the predictions.

settings.toml: the settings in force. recording.json: what made it, where in the run it began, its segments, and whether
it is whole.
audio-000.flac, …: each segment's sound, 24 bits, with the segment's own rate and channels.
drops.csv: where sound was lost to overload, so that a replay has the same stream times.
predictions.csv: every update; its numbers, read as floats, are exactly those that were sent.
details.csv: further values of each update, rounded, for the viewer; empty if not known. attention: oldest frame first,
separated by spaces. Recordings of earlier versions have no such table.
events.csv: changes of the source's state and level, by stream time and time of day; for people.
marks.csv: the marked moments, in the same way; for people too.
"""

from __future__ import annotations

from dataclasses import dataclass

from realtime_mer.errors import RealtimeMerError

FORMAT_VERSION = 1

SETTINGS_FILE, FACTS_FILE = "settings.toml", "recording.json"
PREDICTIONS_FILE, PREDICTIONS_HEADER = "predictions.csv", "index,time_s,valence,arousal,held"
DETAILS_FILE, DETAILS_HEADER = "details.csv", "index,valence_sd,arousal_sd,confidence,gain_db,attention"
DROPS_FILE, DROPS_HEADER = "drops.csv", "segment,at_sample,dropped_samples"
EVENTS_FILE, EVENTS_HEADER = "events.csv", "time_s,time_of_day,state,level,detail"
MARKS_FILE, MARKS_HEADER = "marks.csv", "time_s,time_of_day,number,text"


class RecordingError(RealtimeMerError, RuntimeError):
    """A folder that cannot be recorded into, or that holds no usable recording."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The state of the run at the beginning of a recording; the defaults are those of a run's start.

    index: of its first update. time_s: stream time of its first sample. held: valence and arousal of the last music
    before, each in [-1, 1], which are held in silence.
    """

    index: int = 0
    time_s: float = 0.0
    held: tuple[float, float] = (0.0, 0.0)


def audio_name(segment: int) -> str:
    """The name of a segment's sound file."""
    return f"audio-{segment:03d}.flac"


def reason_of(error: Exception) -> str:
    """Why a file could not be written or read, without a full stop."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # libsndfile's own message.
    return str(getattr(error, "error_string", error)).rstrip(".")
