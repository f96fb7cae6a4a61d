"""Whether this machine is fast enough, and which priority it allows."""

from __future__ import annotations

import contextlib
import threading
import time

from realtime_mer.config import LevelMeterSettings, LiveSettings
from realtime_mer.doctor import Check, failed, ok, skipped, warning
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
    from realtime_mer.demo.instruments import RATE_HZ
    from realtime_mer.demo.piece import render
    from realtime_mer.live.session import Session
    from realtime_mer.models.checkpoint import CheckpointError, chosen_checkpoint_path, load_checkpoint
    from realtime_mer.sources import Capture
    from realtime_mer.sources.grid import on_grid

    path = chosen_checkpoint_path(settings.model.checkpoint)
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        return [skipped("headroom", "it needs the model, above")]
    music, _ = on_grid(next(render())[: round(_MUSIC_S * RATE_HZ)])
    block_samples = round(_BLOCK_S * RATE_HZ)
    n_updates = 0
    with contextlib.closing(Session(checkpoint, LevelMeterSettings())) as session:
        began_s = time.monotonic()
        for start in range(0, len(music), block_samples):
            n_updates += len(session.process(Capture(music[start : start + block_samples], RATE_HZ, 0, 0, None)))
        n_updates += len(session.end_segment())
        took_s = time.monotonic() - began_s
    music_s = len(music) / RATE_HZ
    return [_headroom_check(music_s / took_s, music_s, n_updates)]


def _headroom_check(ratio: float, music_s: float, n_updates: int) -> Check:
    text = f"{ratio:.1f} times faster than real time ({music_s:.0f} s of music, {n_updates} predictions)"
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
