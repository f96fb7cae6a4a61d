"""The values of each address: of predictions, levels and statuses."""

from __future__ import annotations

import math

from realtime_mer.config.space import METER_FLOOR_DB, Values
from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.updates import InputLevel, Status, Update

_LARGEST_INT = 2**31 - 1


def mood_values(valence: float, arousal: float, group: str = "") -> dict[str, Values]:
    """The values of a point of the plane, by name. group: "" or "smooth/"."""
    turn = (math.atan2(arousal, valence) / math.tau) % 1.0
    return {
        f"{group}valence": (valence,),
        f"{group}arousal": (arousal,),
        f"{group}va": (valence, arousal),
        f"{group}unipolar/valence": ((valence + 1.0) / 2.0,),
        f"{group}unipolar/arousal": ((arousal + 1.0) / 2.0,),
        f"{group}polar/angle": (360.0 * turn,),
        f"{group}polar/turn": (turn,),
        f"{group}polar/intensity": (min(math.hypot(valence, arousal), 1.0),),
        **{
            f"{group}weight/{QUADRANT_WORDS[signs][0]}": (
                (1.0 + signs[0] * valence) * (1.0 + signs[1] * arousal) / 4.0,
            )
            for signs in QUADRANTS.values()
        },
    }


def frame_values(update: Update) -> dict[str, Values]:
    """The values of a prediction, by name; confidence and latency only if they are known."""
    prediction = update.prediction
    confidence: dict[str, Values] = {} if prediction.confidence is None else {"confidence": (prediction.confidence,)}
    latency: dict[str, Values] = {} if update.latency_s is None else {"latency": (1000.0 * update.latency_s,)}
    return {
        **mood_values(prediction.valence, prediction.arousal),
        "quadrant": (update.quadrant,),
        **{
            f"mood/{QUADRANT_WORDS[signs][0]}": (int(update.quadrant == number),) for number, signs in QUADRANTS.items()
        },
        **confidence,
        "held": (int(update.held),),
        "frame": (_count(update.index),),
        "time": (update.time_s,),
        **latency,
    }


def level_values(level: InputLevel) -> dict[str, Values]:
    """The values of the input's level, by name."""
    meter = min(max(1.0 - level.rms_db / METER_FLOOR_DB, 0.0), 1.0)
    return {"level/rms": (level.rms_db,), "level/peak": (level.peak_db,), "level/meter": (meter,)}


def status_values(status: Status, heartbeat: int, latency_s: float | None) -> dict[str, Values]:
    """The values of a status, by name."""
    return {
        "status/heartbeat": (heartbeat,),
        "status/source": (status.state.value,),
        "status/input": ("none" if status.level is None else status.level.state.value,),
        "status/drops": (_count(status.dropped_blocks),),
        "status/losses": (_count(status.losses),),
        "status/latency": (1000.0 * (latency_s or 0.0),),
        "status/recording": (int(status.recording is not None and not status.recording_fault),),
        "status/ignored": (_count(status.ignored_packets),),
    }


def _count(number: int) -> int:
    """Limited to an int32, which a flood on the control port exceeds in hours."""
    return min(number, _LARGEST_INT)
