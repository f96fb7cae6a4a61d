"""Compares a replay with its recording."""

from __future__ import annotations

from realtime_mer.recording.reader import Recording
from realtime_mer.updates import Status, Update


class ReplayCheck:
    """The sink that compares a replay's updates with the recorded ones, bit for bit."""

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
        recorded = self._recording.updates[number]
        if _recorded_part(update) != _recorded_part(recorded):
            self._n_different += 1
            now, then = update.prediction, recorded.prediction
            self._largest_difference = max(
                self._largest_difference, abs(now.valence - then.valence), abs(now.arousal - then.arousal)
            )
            self._first_difference = self._first_difference or f"{_shown(recorded)} then, {_shown(update)} now"

    def status(self, status: Status) -> None:
        """Nothing: only predictions are compared."""

    def close(self) -> None:
        """Nothing: `verdict` works before and after."""

    @property
    def identical(self) -> bool:
        """Whether the replay gave the recorded updates: all of them if the recording is whole, and no more if it has no
        open end."""
        more = self._n_updates - len(self._recording.updates)
        as_many = more == 0 or (more > 0 and self._recording.open_end)
        return self._n_different == 0 and (as_many or bool(self._recording.fault))

    def verdict(self) -> str:
        """The result, in a sentence or two."""
        n_recorded = len(self._recording.updates)
        n_compared = min(self._n_updates, n_recorded)
        counts = "" if self._n_updates == n_recorded else f" {n_recorded} were recorded, {self._n_updates} replayed."
        if self._n_different:
            return (
                f"{self._n_different} of {n_compared} predictions differ from the recorded ones, by "
                f"{self._largest_difference:.3g} at most. The first: {self._first_difference}.{counts}"
            )
        return f"All {n_compared} predictions that were compared are identical to the recorded ones.{counts}"


def _recorded_part(update: Update) -> tuple[int, float, float, float, bool]:
    return update.index, update.time_s, update.prediction.valence, update.prediction.arousal, update.held


def _shown(update: Update) -> str:
    held = ", held" if update.held else ""
    prediction = update.prediction
    return f"index {update.index} at {update.time_s!r} s: {prediction.valence!r}, {prediction.arousal!r}{held}"
