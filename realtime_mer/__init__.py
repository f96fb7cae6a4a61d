"""Real-time music-emotion recognition: sound in, valence and arousal out, twice a second.

    import realtime_mer as mer

    trajectory = mer.predict("song.flac")
    for prediction in mer.listen():
        print(prediction.valence, prediction.arousal)

The names below are the public ones (docs/api.md); everything else may change. They are loaded when they are first used,
since importing NumPy and SciPy takes half a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realtime_mer.api import Listener, Recogniser, Trajectory, listen, predict
    from realtime_mer.errors import RealtimeMerError
    from realtime_mer.types import Prediction

__version__ = "0.1.0"

__all__ = ["Listener", "Prediction", "RealtimeMerError", "Recogniser", "Trajectory", "__version__", "listen", "predict"]

_MODULES = {"Prediction": "types", "RealtimeMerError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"realtime_mer.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
