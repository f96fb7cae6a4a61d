"""What the descriptors have in common: decibels, and the statistics of tracks over a stretch's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

_PER_DB = math.log(10.0) / 10.0


def powers(levels_db: npt.NDArray[np.floating]) -> Float64Array:
    """10^(level / 10), in double precision; many times as fast as NumPy's power."""
    return np.asarray(np.exp(_PER_DB * levels_db.astype(np.float64)))


def levels_db(powers: Float64Array) -> Float64Array:
    """10 log10(power)."""
    return np.asarray(10.0 * np.log10(powers))


def means_and_deviations(tracks: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Over the rows: (…, rows, tracks) -> twice (…, tracks)."""
    means = tracks.mean(axis=-2)
    centred = tracks - means[..., np.newaxis, :]
    return means, np.sqrt(np.einsum("...rt,...rt->...t", centred, centred) / tracks.shape[-2])


def numbered(name: str, numbers: Iterable[int]) -> list[str]:
    """name[0], name[1], …"""
    return [f"{name}[{number}]" for number in numbers]
