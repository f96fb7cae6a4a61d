"""The window's texts. No Qt in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime_mer.osc.status import NetworkStatus
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update
from realtime_mer.window.theme import Tone


@dataclass(frozen=True, slots=True)
class Headline:
    """The state of the run: a word (empty if all is well), a sentence, and its tone.

    ghost: whether the display does not follow the music at present.
    """

    word: str
    sentence: str
    tone: Tone
    ghost: bool


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the status line."""

    caption: str
    value: str
    tone: Tone = Tone.PLAIN


# Two rows of three.
MOST_NETWORK_FIELDS = 6

_TONE_OF_STATE = {SourceState.RUNNING: Tone.GOOD, SourceState.PAUSED: Tone.WARNING, SourceState.LOST: Tone.BAD}
_TONE_OF_LEVEL = {LevelState.MUSIC: Tone.GOOD, LevelState.QUIET: Tone.WARNING, LevelState.CLIPPING: Tone.BAD}
_OF_LEVEL = {
    LevelState.QUIET: Headline("too quiet", "Turn the input up.", Tone.WARNING, ghost=False),
    LevelState.CLIPPING: Headline("clipping", "Turn the input down.", Tone.BAD, ghost=False),
}


def headline(status: Status, newest: Update | None) -> Headline:
    """newest: the latest update, None before the first."""
    if status.state is not SourceState.RUNNING:
        word = "device lost" if status.state is SourceState.LOST else status.state.value
        return Headline(word, status.detail, _state_tone(status), ghost=True)
    if newest is None:
        return Headline("listening", "The first prediction takes a second of sound.", Tone.PLAIN, ghost=True)
    if newest.held:
        return Headline("silence", "The last prediction holds.", Tone.PLAIN, ghost=True)
    following = Headline("", status.detail or "Following the music.", Tone.GOOD, ghost=False)
    return following if status.level is None else _OF_LEVEL.get(status.level.state, following)


def status_fields(status: Status, newest: Update | None) -> tuple[Field, ...]:
    """The status line; always the same captions in the same order."""
    latency_s = newest.latency_s if newest is not None and status.state is SourceState.RUNNING else None
    confidence = None if newest is None else newest.prediction.confidence
    lost_sound = _lost_sound(status)
    return (
        Field("state", status.state.value, _state_tone(status)),
        Field("source", status.source),
        Field("processed", duration(status.time_s)),
        Field("latency", "–" if latency_s is None else f"{1000 * latency_s:.0f} ms"),
        Field("lost sound", lost_sound or "none", Tone.BAD if lost_sound else Tone.PLAIN),
        Field("device lost", f"{status.losses} ×, {status.lost_s:.1f} s", Tone.WARNING)
        if status.losses
        else Field("device lost", "never"),
        Field("confidence", "–" if confidence is None else f"{100 * confidence:.0f} %"),
        _recording(status),
    )


def network_fields(network: Sequence[NetworkStatus]) -> tuple[Field, ...]:
    """A field for each OSC target and server. Of more than 6, those in trouble first, and the rest counted."""
    if len(network) <= MOST_NETWORK_FIELDS:
        return tuple(map(_network_field, network))
    by_trouble = sorted(network, key=lambda end: end.is_well)
    shown, others = by_trouble[: MOST_NETWORK_FIELDS - 1], by_trouble[MOST_NETWORK_FIELDS - 1 :]
    n_troubled = sum(not end.is_well for end in others)
    value, tone = (f"{n_troubled} with problems", Tone.WARNING) if n_troubled else ("all well", Tone.PLAIN)
    return (*map(_network_field, shown), Field(f"{len(others)} more", value, tone))


def level_text(level: InputLevel | None, gain_db: float) -> str:
    """The level in figures: RMS and peak in dBFS, and the gain stage's gain in dB if that is known."""
    if level is None:
        return "–"
    gain = "" if math.isnan(gain_db) else f" · gain {signed(gain_db, 1)} dB"
    return f"{signed(level.rms_db, 1)} dBFS · peak {signed(level.peak_db, 1)}{gain}"


def level_tone(level: InputLevel | None) -> Tone:
    """The tone of the level's state."""
    return Tone.PLAIN if level is None else _TONE_OF_LEVEL.get(level.state, Tone.PLAIN)


def signed(value: float, digits: int = 2) -> str:
    """A number that always has a sign, the minus as wide as the plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def duration(time_s: float) -> str:
    """Hours, minutes and seconds: `0:03:12`."""
    whole_s = int(time_s)
    return f"{whole_s // 3600}:{whole_s // 60 % 60:02d}:{whole_s % 60:02d}"


def _state_tone(status: Status) -> Tone:
    return _TONE_OF_STATE.get(status.state, Tone.PLAIN)


def _lost_sound(status: Status) -> str:
    parts = []
    if status.dropped_blocks:
        parts.append(f"{status.dropped_blocks} blocks, {status.dropped_s:.2f} s")
    if status.overflows:
        parts.append(f"{status.overflows} overflows")
    if status.replaced_samples:
        parts.append(f"{status.replaced_samples} bad samples")
    return ", ".join(parts)


def _recording(status: Status) -> Field:
    if status.recording_fault:
        return Field("recording", f"incomplete: {status.recording_fault}", Tone.BAD)
    if status.recording is None:
        return Field("recording", "off")
    return Field("recording", Path(status.recording).name or status.recording, Tone.GOOD)


def _network_field(end: NetworkStatus) -> Field:
    return Field(end.title, end.notes or "sending", Tone.PLAIN if end.is_well else Tone.WARNING)
