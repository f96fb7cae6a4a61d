"""Logs the events of a run: source, level, recording, OSC targets, commands, and counts."""

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

# How often a rising count, a wrong level and the summary are logged at most.
_COUNT_INTERVAL_S, _LEVEL_INTERVAL_S, _SUMMARY_INTERVAL_S = 10.0, 60.0, 600.0
# How often the targets are checked, and how long a target's state must last before it is logged: looking up a name
# takes a moment.
_OSC_INTERVAL_S, _OSC_PATIENCE_S = 1.0, 2.0
_SUMMARY, _TARGETS = "summary", "targets"

# As in Controls: a command's name, its values, and a function that takes the answer.
CarryOut = Callable[[str, "Values", Answer], None]


class LogSink:
    """The sink that logs a run.

    osc: OscSink.target_statuses. clock_s: monotonic; it only limits how often lines are repeated.
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
        self._counts: dict[str, int] = {}
        # By index: the last state, and since when; the last state that was logged.
        self._seen_targets: dict[int, tuple[TargetStatus, float]] = {}
        self._logged_targets: dict[int, TargetStatus] = {}
        self._logged_s: dict[str, float] = {_SUMMARY: clock_s()}

    def update(self, update: Update) -> None:
        self._n_updates += 1
        self._longest_latency_s = max(self._longest_latency_s, update.latency_s or 0.0)
        if update.held != self._held:
            self._held = update.held
            LOGGER.info("silence: the prediction holds" if update.held else "music")
        latency = "" if update.latency_s is None else f", latency {1000 * update.latency_s:.0f} ms"
        valence, arousal = update.prediction.valence, update.prediction.arousal
        LOGGER.debug("prediction %d: valence %+.3f, arousal %+.3f%s", update.index, valence, arousal, latency)

    def status(self, status: Status) -> None:
        log.set_stream_time(status.time_s)
        before, self._before = self._before, status
        self._log_source(before, status)
        _log_recording(before, status)
        self._log_level(before, status)
        self._log_counts(status, _COUNT_INTERVAL_S)
        if self._is_due(_TARGETS, _OSC_INTERVAL_S):
            self._log_targets()
        if self._is_due(_SUMMARY, _SUMMARY_INTERVAL_S):
            self._log_summary("so far", status)
            self._longest_latency_s = 0.0

    def close(self) -> None:
        if self._before is not None:
            self._log_counts(self._before, 0.0)
            self._log_summary("in all", self._before)
            self._before = None

    def _is_due(self, what: str, interval_s: float) -> bool:
        """Whether `what` was not logged within the interval; if so, it is logged now."""
        now_s = self._clock_s()
        if now_s - self._logged_s.get(what, float("-inf")) < interval_s:
            return False
        self._logged_s[what] = now_s
        return True

    def _log_source(self, before: Status | None, status: Status) -> None:
        is_lost = status.state is SourceState.LOST
        if before is None or _source_of(before) != _source_of(status):
            is_back = status.losses and status.lost_s > self._lost_s and status.state is SourceState.RUNNING
            more = f" again after {status.lost_s - self._lost_s:.1f} s" if is_back else ""
            more += f": {status.detail}" if status.detail else ""
            verb = "has" if status.state is SourceState.ENDED else "is"
            level = logging.WARNING if is_lost else logging.INFO
            LOGGER.log(level, "%s %s %s%s", status.source, verb, status.state, more)
        if not is_lost:
            self._lost_s = status.lost_s

    def _log_level(self, before: Status | None, status: Status) -> None:
        level = status.level
        if level is None or (before is not None and before.level is not None and before.level.state is level.state):
            return
        values = f"{level.rms_db:.1f} dBFS, peak {level.peak_db:.1f}"
        LOGGER.debug("the input is %s: %s", level.state, values)
        remedy = {LevelState.QUIET: "up", LevelState.CLIPPING: "down"}.get(level.state)
        if remedy is not None and self._is_due(level.state, _LEVEL_INTERVAL_S):
            LOGGER.warning("the input is %s (%s): turn it %s", level.state, values, remedy)

    def _log_counts(self, status: Status, interval_s: float) -> None:
        for count, what, more in (
            (status.dropped_blocks, "blocks dropped", f", {status.dropped_s:.2f} s: this machine cannot keep up"),
            (status.overflows, "overflows of the sound card's buffer", ": this machine is too busy"),
            (status.replaced_samples, "samples replaced", ": they were not numbers"),
            (status.ignored_packets, "packets to the control port ignored", ": they were not commands"),
        ):
            if count != self._counts.get(what, 0) and self._is_due(what, interval_s):
                self._counts[what] = count
                LOGGER.warning("%d %s%s", count, what, more)

    def _log_targets(self) -> None:
        now_s = self._clock_s()
        for index, target in enumerate(self._osc()):
            state = target.without_counts()
            seen, since_s = self._seen_targets.get(index, (None, now_s))
            if state != seen:
                since_s = now_s
                self._seen_targets[index] = state, now_s
            if state != self._logged_targets.get(index) and now_s - since_s >= _OSC_PATIENCE_S:
                self._logged_targets[index] = state
                LOGGER.log(logging.INFO if state.is_up else logging.WARNING, "OSC to %s", state)

    def _log_summary(self, label: str, status: Status) -> None:
        LOGGER.info(
            "%s: %d predictions, %d blocks dropped, device lost %d times for %.1f s%s%s; OSC to %s",
            *(label, self._n_updates, status.dropped_blocks, status.losses, status.lost_s),
            f", latency {1000 * self._longest_latency_s:.0f} ms at most" if self._longest_latency_s else "",
            "" if status.level is None else f", level {status.level.rms_db:.1f} dBFS, gain {status.gain_db:+.1f} dB",
            ", ".join(map(str, self._osc())) or "no target",
        )


def log_commands(carry_out: CarryOut) -> CarryOut:
    """The same function, which also logs each command with its answer."""

    def carry_out_and_log(name: str, values: Values, answer: Answer) -> None:
        command = " ".join(map(str, (name, *values)))

        def log_answer(ok: bool, text: str) -> None:
            LOGGER.info("command %s: %s%s", command, "" if ok else "refused: ", text)
            answer(ok, text)

        try:
            carry_out(name, values, log_answer)
        except Exception:
            LOGGER.exception("command %s: this should not have happened", command)
            raise

    return carry_out_and_log


def _source_of(status: Status) -> tuple[str, SourceState, str]:
    return status.source, status.state, status.detail


def _log_recording(before: Status | None, status: Status) -> None:
    was, fault_was = (None, "") if before is None else (before.recording, before.recording_fault)
    if was is not None and was != status.recording:
        LOGGER.info("recorded into %s", was)
    if status.recording is not None and was != status.recording:
        LOGGER.info("recording into %s", status.recording)
    if status.recording_fault and status.recording_fault != fault_was:
        LOGGER.error("the recording is incomplete: %s", status.recording_fault)
