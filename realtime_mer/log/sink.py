"""What the log is told of a live run: its source, its level, its recording, its targets, its commands, and counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from realtime_mer import log
from realtime_mer.log import LOGGER
from realtime_mer.updates import Answer, LevelState, SourceState, Status, Update

if TYPE_CHECKING:
    from realtime_mer.config.space import Values
    from realtime_mer.osc.status import TargetStatus

# How often the same thing is told at most: a count that rises, a level that is wrong; how the run is in all.
_COUNT_INTERVAL_S, _LEVEL_INTERVAL_S, _SUMMARY_INTERVAL_S = 10.0, 60.0, 600.0
# How often the targets are asked for, and for how long one has to be as it is.
_OSC_INTERVAL_S, _OSC_PATIENCE_S = 1.0, 2.0

# As Controls has it: a command's name, its values, and who takes the answer.
CarryOut = Callable[[str, "Values", Answer], None]


class LogSink:
    """The sink that tells the log what becomes of a run.

    osc: OscSink.target_statuses. clock_s: never goes back; it decides only how often something is told.
    """

    def __init__(
        self, osc: Callable[[], Sequence[TargetStatus]], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock_s = clock_s
        self._osc = osc
        self._before: Status | None = None
        self._held: bool | None = None
        self._lost_s = 0.0
        self._n_updates = 0
        self._longest_latency_s = 0.0
        self._counts: dict[str, _Count] = {}
        self._levels_told_s: dict[LevelState, float] = {}
        self._targets = [_Target() for _ in osc()]
        self._asked_s = float("-inf")
        self._summary_s = clock_s()

    def update(self, update: Update) -> None:
        self._n_updates += 1
        self._longest_latency_s = max(self._longest_latency_s, update.latency_s or 0.0)
        if update.held != self._held:
            self._held = update.held
            LOGGER.info("silence: the prediction holds" if update.held else "music")
        latency = "" if update.latency_s is None else f", {1000 * update.latency_s:.0f} ms after its sound"
        valence, arousal = update.prediction.valence, update.prediction.arousal
        LOGGER.debug("prediction %d: valence %+.3f, arousal %+.3f%s", update.index, valence, arousal, latency)

    def status(self, status: Status) -> None:
        log.set_stream_time(status.time_s)
        before, self._before = self._before, status
        now_s = self._clock_s()
        self._tell_source(before, status)
        _tell_recording(before, status)
        self._tell_level(before, status, now_s)
        self._tell_counts(status, now_s)
        if now_s - self._asked_s >= _OSC_INTERVAL_S:
            self._asked_s = now_s
            for target, osc in zip(self._targets, self._osc(), strict=True):
                if target.is_due(osc.without_counts(), now_s):
                    LOGGER.log(logging.INFO if osc.is_up else logging.WARNING, "OSC to %s", osc.without_counts())
        if now_s - self._summary_s >= _SUMMARY_INTERVAL_S:
            self._summary_s = now_s
            self._tell_summary("so far")
            self._longest_latency_s = 0.0

    def close(self) -> None:
        if self._before is not None:
            self._tell_counts(self._before, float("inf"))
            self._tell_summary("in all")
            self._before = None

    def _tell_source(self, before: Status | None, status: Status) -> None:
        lost = status.state is SourceState.LOST
        if before is None or _is_of_source(before) != _is_of_source(status):
            again = status.losses and status.lost_s > self._lost_s and status.state is SourceState.RUNNING
            words = f" again after {status.lost_s - self._lost_s:.1f} s" if again else ""
            words += f": {status.detail}" if status.detail else ""
            verb = "has" if status.state is SourceState.ENDED else "is"
            grave = logging.WARNING if lost else logging.INFO
            LOGGER.log(grave, "%s %s %s%s", status.source, verb, status.state, words)
        if not lost:
            self._lost_s = status.lost_s

    def _tell_level(self, before: Status | None, status: Status, now_s: float) -> None:
        level = status.level
        if level is None or (before is not None and before.level is not None and before.level.state is level.state):
            return
        LOGGER.debug("the input is %s: %.1f dBFS, peak %.1f", level.state, level.rms_db, level.peak_db)
        cure = {LevelState.QUIET: "up", LevelState.CLIPPING: "down"}.get(level.state)
        told_s = self._levels_told_s.get(level.state)
        if cure is not None and (told_s is None or now_s - told_s >= _LEVEL_INTERVAL_S):
            self._levels_told_s[level.state] = now_s
            LOGGER.warning(
                *("the input is %s (%.1f dBFS, peak %.1f): turn it %s", level.state, level.rms_db, level.peak_db, cure)
            )

    def _tell_counts(self, status: Status, now_s: float) -> None:
        for count, what, words in (
            (status.dropped_blocks, "blocks dropped", f", {status.dropped_s:.2f} s: this machine cannot keep up"),
            (status.overflows, "overflows of the sound card's buffer", ": this machine is too busy"),
            (status.replaced_samples, "samples replaced", ": they were no numbers"),
            (status.ignored_packets, "packets to the control port ignored", ": they were no commands"),
        ):
            if self._counts.setdefault(what, _Count()).is_due(count, now_s):
                LOGGER.warning("%d %s%s", count, what, words)

    def _tell_summary(self, words: str) -> None:
        status = self._before
        assert status is not None
        LOGGER.info(
            "%s: %d predictions, %d blocks dropped, device lost %d times for %.1f s%s%s; OSC to %s",
            *(words, self._n_updates, status.dropped_blocks, status.losses, status.lost_s),
            f", latency {1000 * self._longest_latency_s:.0f} ms at most" if self._longest_latency_s else "",
            "" if status.level is None else f", level {status.level.rms_db:.1f} dBFS, gain {status.gain_db:+.1f} dB",
            ", ".join(map(str, self._osc())) or "nobody",
        )


class _Count:
    """A count that rises, and is told every ten seconds at most."""

    _told = 0
    _told_s = float("-inf")

    def is_due(self, count: int, now_s: float) -> bool:
        if count == self._told or now_s - self._told_s < _COUNT_INTERVAL_S:
            return False
        self._told, self._told_s = count, now_s
        return True


class _Target:
    """What is known of an OSC target, told once it has been so for two seconds: looking up a name takes a moment."""

    _told: TargetStatus | None = None
    _seen: TargetStatus | None = None
    _since_s = 0.0

    def is_due(self, status: TargetStatus, now_s: float) -> bool:
        if status != self._seen:
            self._seen, self._since_s = status, now_s
        if status == self._told or now_s - self._since_s < _OSC_PATIENCE_S:
            return False
        self._told = status
        return True


def commands_told(carry_out: CarryOut) -> CarryOut:
    """The same, and the log is told what came of each command."""

    def carry_out_and_tell(name: str, values: Values, answer: Answer) -> None:
        command = " ".join(map(str, (name, *values)))

        def tell(ok: bool, text: str) -> None:
            LOGGER.info("command %s: %s%s", command, "" if ok else "refused: ", text)
            answer(ok, text)

        try:
            carry_out(name, values, tell)
        except Exception:
            LOGGER.exception("command %s: this should not have happened", command)
            raise

    return carry_out_and_tell


def _is_of_source(status: Status) -> tuple[str, SourceState, str]:
    return status.source, status.state, status.detail


def _tell_recording(before: Status | None, status: Status) -> None:
    was, fault_was = (None, "") if before is None else (before.recording, before.recording_fault)
    if was is not None and was != status.recording:
        LOGGER.info("recorded into %s", was)
    if status.recording is not None and was != status.recording:
        LOGGER.info("recording into %s", status.recording)
    if status.recording_fault and status.recording_fault != fault_was:
        LOGGER.error("the recording is incomplete: %s", status.recording_fault)
