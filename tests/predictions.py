"""Predictions that differ from others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from realtime_mer.updates import Update


def with_prediction(update: Update, **changes: Any) -> Update:
    """The same update with these fields of its prediction changed."""
    return replace(update, prediction=replace(update.prediction, **changes))
