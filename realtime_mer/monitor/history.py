"""The latest updates, as arrays to draw. No Qt in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from realtime_mer.status import Update

# Two minutes of predictions, one every 0.5 s.
_CAPACITY = 240


class History:
    """The latest updates, as many as its capacity.

    time_s, valence, arousal: float64, shape (n,), oldest first; held: bool, shape (n,). newest: the last, or None.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._updates: deque[Update] = deque(maxlen=capacity)
        self._arrange()

    def extend(self, updates: Iterable[Update]) -> None:
        """Takes new updates, oldest first."""
        self._updates.extend(updates)
        self._arrange()

    @property
    def newest(self) -> Update | None:
        return self._updates[-1] if self._updates else None

    def _arrange(self) -> None:
        self.time_s = self._column([update.time_s for update in self._updates])
        self.valence = self._column([update.valence for update in self._updates])
        self.arousal = self._column([update.arousal for update in self._updates])
        self.held = np.array([update.held for update in self._updates], dtype=bool)

    @staticmethod
    def _column(values: list[float]) -> npt.NDArray[np.float64]:
        return np.array(values, dtype=np.float64)
