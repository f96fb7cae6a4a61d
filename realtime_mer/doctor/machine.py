"""Whether this machine is fast enough, and which priority it allows."""

from __future__ import annotations

import threading
import time

from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, failed, ok, skipped, warning
from realtime_mer.errors import CheckpointError
from realtime_mer.priorities import NICENESS, raise_priority

_MUSIC_S = 15.0
_BLOCK_S = 0.01
# Beside two busy programs a core has a third of its time left, so three times real time is enough. BARELY is enough to
# catch up after a delay if nothing else runs.
ENOUGH, BARELY = 3.0, 1.3
# How late a sleep of 5 ms, as in the live run, may end: a block of sound.
_SLEEP_S, _N_SLEEPS, _LATE_S = 0.005, 60, 0.02


def headroom(settings: LiveSettings) -> list[Check]:
    """How much faster than real time the pipeline is, from sound to predictions, with the built-in piece."""
    from realtime_mer.api import Recogniser
    from realtime_mer.demo.instruments import RATE_HZ
    from realtime_mer.demo.piece import render
    from realtime_mer.features.engine import FeatureEngineError

    model = settings.model
    try:
        recogniser = Recogniser(
            rate_hz=RATE_HZ, model=model.name, checkpoint=model.checkpoint, prediction_rate_hz=model.rate_hz
        )
    except (CheckpointError, FeatureEngineError):
        return [skipped("headroom", "it needs the model, above")]
    music = next(render())[: round(_MUSIC_S * RATE_HZ)]
    block_samples = round(_BLOCK_S * RATE_HZ)
    with recogniser:
        began_s = time.monotonic()
        starts = range(0, len(music), block_samples)
        n_predictions = sum(len(recogniser.process(music[start : start + block_samples])) for start in starts)
        n_predictions += len(recogniser.finish())
        took_s = time.monotonic() - began_s
    return [_headroom_check(_MUSIC_S / took_s, n_predictions)]


def _headroom_check(ratio: float, n_predictions: int) -> Check:
    text = f"{ratio:.1f} times faster than real time ({_MUSIC_S:.0f} s of music, {n_predictions} predictions)"
    cure = "End other programs, or use a faster machine."
    if ratio < BARELY:
        return failed("headroom", f"{text}; it must be at least {BARELY:g}", cure)
    if ratio < ENOUGH:
        return warning("headroom", f"{text}; {ENOUGH:g} leaves room for busy programs beside it", cure)
    return ok("headroom", f"{text}; {ENOUGH:g} is enough")


def scheduling(_settings: LiveSettings) -> list[Check]:
    """How punctual sleeps are, and whether the system allows a higher priority."""
    late_s = []
    for _ in range(_N_SLEEPS):
        began_s = time.monotonic()
        time.sleep(_SLEEP_S)
        late_s.append(time.monotonic() - began_s - _SLEEP_S)
    worst_s = sorted(late_s)[round(0.95 * _N_SLEEPS)]
    text = f"of sleeps of {1000 * _SLEEP_S:.0f} ms, 95 in 100 end at most {1000 * worst_s:.1f} ms late"
    clock = ok("clock", text)
    if worst_s > _LATE_S:
        cure = "The machine is busy or saves power: end other programs, or plug in the power supply."
        clock = warning("clock", text, cure)
    return [clock, _priority()]


def _priority() -> Check:
    raised: list[bool] = []
    # On Linux each thread has its own niceness, so this one's is left as it is.
    trial = threading.Thread(target=lambda: raised.append(raise_priority()))
    trial.start()
    trial.join()
    if raised == [True]:
        return ok("priority", f"higher than that of other programs (niceness {NICENESS})")
    # No warning: predictions are on time without it (results/headroom.md).
    return ok("priority", "as other programs; this system allows no more (Linux: RLIMIT_NICE)")
