"""Trains the responsive model: on windows of every length from one to ten seconds, beginning anywhere in a song.

Beside DEAM's songs other clips can take part in training, never in a score: clips with a quadrant of the emotion
plane, and clips with a mean rating, each as a target on DEAM's scale with a weight of its own.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from realtime_mer.features.descriptors.responsive import LOW_FLOOR, MEMORY_HOPS, TICKS_PER_HOP, describe_last
from realtime_mer.features.descriptors.rows import HOP_SAMPLES, RowStream
from realtime_mer.features.descriptors.spectra import RATE_HZ
from realtime_mer.features.engine import HOP_S
from realtime_mer.types import FloatArray
from train.models import WindowModel
from train.sets import mono_of

Float64Array = npt.NDArray[np.float64]

# As the quadrant clips number them: counter-clockwise from where valence and arousal are both positive.
_CORNERS = {1: (1.0, 1.0), 2: (-1.0, 1.0), 3: (-1.0, -1.0), 4: (1.0, -1.0)}
N_WINDOWS = 24
_FULL_SHARE = 0.4
_SHORT_HOPS = (2, 3, 4, 5, 6, 8, 10, 14)
_MIXUP = 0.5
_TINY = 1e-7


@dataclass(frozen=True)
class OtherClip:
    """A clip from outside DEAM. target: valence and arousal as the other data have them: ±1, or a mean rating."""

    path: Path
    target: tuple[float, float]


@dataclass(frozen=True, eq=False)
class OtherWindows:
    """Windows of such clips. clip: int (n,), values: (n, n_features), targets: (n, 2), as OtherClip has them.

    frames: each clip's frames from its first sample on, as a live run has them, (frames, n_features).
    """

    clip: npt.NDArray[np.int64]
    values: FloatArray
    targets: Float64Array
    frames: tuple[FloatArray, ...]

    @property
    def clip_targets(self) -> Float64Array:
        """Each clip's target, (clips, 2)."""
        return self.targets[np.searchsorted(self.clip, np.arange(len(self.frames)))]

    def without(self, held_out: npt.NDArray[np.bool_]) -> OtherWindows:
        """Without the windows of the clips that are held out, (clips,)."""
        rows = ~held_out[self.clip]
        return OtherWindows(self.clip[rows], self.values[rows], self.targets[rows], self.frames)


def quadrant_clips(folder: Path) -> list[OtherClip]:
    """The clips of a folder with clips.csv (clip, quadrant) and audio/<clip>.ogg."""
    return [
        OtherClip(folder / "audio" / f"{row['clip']}.ogg", _CORNERS[int(row["quadrant"])])
        for row in _rows(folder / "clips.csv")
    ]


def rated_clips(folder: Path) -> list[OtherClip]:
    """The clips of a folder with clips.csv (clip, valence_mean, arousal_mean, …) and audio/<clip>.ogg."""
    return [
        OtherClip(folder / "audio" / f"{row['clip']}.ogg", (float(row["valence_mean"]), float(row["arousal_mean"])))
        for row in _rows(folder / "clips.csv")
    ]


def extract_windows(path: Path, settings: None) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """N_WINDOWS windows of a file: where a frame of one second that ends with each would begin, and their values.

    The file is heard from a random sample of its first half second on. A part of the windows reach from there to their
    end; the others are one to seven seconds long. Random, but the same for the same file name.
    """
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    samples = mono_of(path)
    skipped = int(rng.integers(0, HOP_SAMPLES)) if len(samples) > 3 * RATE_HZ else 0
    n_hops = (len(samples) - skipped) // HOP_SAMPLES
    # A window ends with a frame; every end once, as long as there are some.
    ends = [int(end) for end in np.resize(rng.permutation(np.arange(2, n_hops + 1)), N_WINDOWS)]
    wanted: dict[int, list[int]] = {}
    for end in ends:
        shorter = [hops for hops in _SHORT_HOPS if hops < end]
        whole = not shorter or rng.random() < _FULL_SHARE
        wanted.setdefault(end, []).append(min(end, MEMORY_HOPS) if whole else int(rng.choice(shorter)))
    stream = RowStream(50 * MEMORY_HOPS, 5 * MEMORY_HOPS, LOW_FLOOR)
    starts_s, values = [], []
    for index in stream.step(samples[skipped:]):
        for hops in wanted.get(index + 2, []):
            starts_s.append(index * HOP_S + skipped / RATE_HZ)
            values.append(describe_last(stream.spectra, stream.peaks_db, hops * TICKS_PER_HOP))
    return np.array(starts_s), np.stack(values)


def fit_window_model(
    model: WindowModel,
    rows: FloatArray,
    targets: FloatArray,
    weights: Float64Array,
    *,
    linear_penalty: float,
    kernel_penalty: float,
    epochs: int,
    batch_rows: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
) -> None:
    """Fits all three learners of the model. rows: scaled, (n, n_features); targets (n, 2); weights (n,), positive.

    The network's batches are drawn by weight, and rows are mixed in pairs (mixup; Zhang et al. 2018): with so few songs
    its best regulariser. on_epoch: called with the number and the mean loss.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    share = torch.from_numpy(weights / weights.sum())
    x, y = torch.from_numpy(rows), torch.from_numpy(np.asarray(targets, dtype=np.float32))
    with torch.no_grad():
        mean, centre = share @ x.double(), share @ y.double()
        centred = x.double() - mean
        gram = (centred * share[:, None]).T @ centred + linear_penalty * torch.eye(
            model.architecture.n_features, dtype=torch.float64
        )
        linear = torch.linalg.solve(gram, (centred * share[:, None]).T @ (y.double() - centre))
        model.linear_weight.copy_(linear)
        model.linear_bias.copy_(centre - mean @ linear)
        chosen = rng.choice(
            len(rows), model.architecture.n_landmarks, replace=len(rows) < model.architecture.n_landmarks
        )
        model.landmarks.copy_(x[torch.from_numpy(chosen)])
        kernels = model.kernels(x)
        weighted = kernels * share[:, None].float()
        gram = (weighted.T @ kernels).double() + kernel_penalty * model.kernels(model.landmarks).double()
        gram += _TINY * torch.eye(model.architecture.n_landmarks, dtype=torch.float64)
        model.kernel_weight.copy_(torch.linalg.solve(gram, (weighted.T @ (y - centre.float())).double()))
        model.kernel_bias.copy_(centre)
    steps_per_epoch = max(1, len(rows) // batch_rows)
    cumulative = torch.cumsum(share, dim=0)
    for member in model.members:
        assert isinstance(member, nn.Sequential)
        with torch.no_grad():
            member[-1].bias.copy_(centre)  # type: ignore[operator]
        optimizer = torch.optim.AdamW(member.parameters(), learning_rate, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, total_steps=epochs * steps_per_epoch, cycle_momentum=False
        )
        member.train()
        for epoch in range(epochs):
            total = 0.0
            for _ in range(steps_per_epoch):
                drawn = torch.searchsorted(cumulative, torch.rand(2, batch_rows, dtype=torch.float64) * cumulative[-1])
                one, other = drawn.clamp(max=len(rows) - 1)
                mixed = torch.distributions.Beta(_MIXUP, _MIXUP).sample((batch_rows, 1))
                inputs = mixed * x[one] + (1.0 - mixed) * x[other]
                wanted = mixed * y[one] + (1.0 - mixed) * y[other]
                loss = (member(inputs) - wanted).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            if on_epoch is not None:
                on_epoch(epoch + 1, total / steps_per_epoch)
        member.eval()


def on_deam_scale(targets: Float64Array, labels: FloatArray, scale: float, *, rated: bool) -> FloatArray:
    """Other data's targets, (n, 2), as values on DEAM's scale: mean ± scale · s.d. of DEAM's labels, (m, 2).

    rated: targets are ratings, which are standardised first; else they are ±1.
    """
    if rated:
        targets = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    return np.asarray(labels.mean(axis=0) + scale * labels.std(axis=0) * targets, dtype=np.float32)


def _rows(path: Path) -> Sequence[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
