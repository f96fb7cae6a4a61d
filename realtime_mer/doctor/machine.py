"""Whether this machine is quick enough, and what it lets the program do."""

from __future__ import annotations

import contextlib
import threading
import time

from realtime_mer.config import LevelMeterSettings, LiveSettings
from realtime_mer.doctor import Check, failed, ok, skipped, warning
from realtime_mer.priorities import NICENESS, raise_priority

_MUSIC_S = 15.0
_BLOCK_S = 0.01
# Two busy programs to a core leave a third of it, so three times real time is what is needed beside them. At BARELY a
# hiccup is still made up for, as long as nothing else runs.
ENOUGH, BARELY = 3.0, 1.3
# How late a rest of 5 ms, as the live run takes them, may end: a block of sound.
_REST_S, _N_RESTS, _LATE_S = 0.005, 60, 0.02


def headroom(settings: LiveSettings) -> list[Check]:
    """How much faster than real time the whole way from sound to predictions is, with the built-in piece."""
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
        return [skipped("headroom", "not without the model, above")]
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
    return [_told_of(music_s / took_s, music_s, n_updates)]


def _told_of(ratio: float, music_s: float, n_updates: int) -> Check:
    text = f"{ratio:.1f} times faster than real time ({music_s:.0f} s of music, {n_updates} predictions)"
    cure = "End what else is running, or take a quicker machine."
    if ratio < BARELY:
        return failed("headroom", f"{text}; {BARELY:g} is the least", cure)
    if ratio < ENOUGH:
        return warning("headroom", f"{text}; {ENOUGH:g} leaves room for busy programs beside it", cure)
    return ok("headroom", f"{text}; {ENOUGH:g} is enough")


def scheduling(_settings: LiveSettings) -> list[Check]:
    """How punctual rests are, and whether the system lets the program go before others."""
    late_s = []
    for _ in range(_N_RESTS):
        began_s = time.monotonic()
        time.sleep(_REST_S)
        late_s.append(time.monotonic() - began_s - _REST_S)
    worst_s = sorted(late_s)[round(0.95 * _N_RESTS)]
    text = f"of rests of {1000 * _REST_S:.0f} ms, 95 in 100 end at most {1000 * worst_s:.1f} ms late"
    clock = ok("clock", text)
    if worst_s > _LATE_S:
        cure = "The machine is busy or saves power: end other programs, or plug it into the mains."
        clock = warning("clock", text, cure)
    return [clock, _priority()]


def _priority() -> Check:
    raised: list[bool] = []
    # In a thread that ends: Linux knows niceness by thread.
    trial = threading.Thread(target=lambda: raised.append(raise_priority()))
    trial.start()
    trial.join()
    if raised == [True]:
        return ok("priority", f"the system lets it go before other programs (niceness {NICENESS})")
    # Nothing is wrong: predictions are on time without it (results/headroom.md).
    return ok("priority", "ordinary, as other programs; this system allows no more (Linux: RLIMIT_NICE)")
