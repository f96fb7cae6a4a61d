"""Trains the change detector: on songs in random order, cut to cut, which frames come about a second after a cut?

Only songs of the training split take part, as clips' 100 ms blocks, joined at random lengths and gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from realtime_mer.features.changes import (
    BLOCK_ROWS,
    BLOCKS_PER_S,
    FIRST_BLOCK_ROW,
    N_NOVELTY,
    Blocks,
    blocks_of,
    novelty,
    signed_log,
)
from realtime_mer.features.descriptors.responsive import LOW_FLOOR
from realtime_mer.features.descriptors.spectra import short_spectra, tone_peaks
from realtime_mer.types import FloatArray
from train.sets import mono_of

_WIDTHS = (40, 7, 1, 1, 36)
# A frame with so many blocks behind it ends five blocks after the one before; so many of the tone rows are there.
_BLOCKS_PER_HOP, _FIRST_FRAME_BLOCKS, _TONE_ROWS_MISSING = 5, 9, 2
_SPAN_BLOCKS = 70
# Frames that end so long after a cut are to be found; those from _QUIET_S on and up to _BEFORE_S are not to be.
_FOUND_S = (0.8, 1.8)
_QUIET_S, _BEFORE_S = 2.3, 0.3
_SHORTEST_SONG_BLOCKS = 50
_LARGEST_GAIN_DB = 6.0
_N_MEMBERS, _N_HIDDEN = 3, 48
_EPOCHS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 12, 256, 3e-3, 0.05
_DROPOUT = 0.3


@dataclass(frozen=True)
class CutFrames:
    """Frames of songs cut to cut. values: (n, N_NOVELTY). since_s: (n,), since the last cut; inf before the first."""

    values: FloatArray
    since_s: npt.NDArray[np.float64]


def extract_blocks(path: Path, settings: None) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """A file's blocks as a cache keeps them: their starts in seconds and their values side by side, (n, 85)."""
    samples = mono_of(path)
    spectra, peaks_db = short_spectra(samples, LOW_FLOOR), tone_peaks(samples)
    blocks = blocks_of(spectra.mel_db[FIRST_BLOCK_ROW:], spectra.contrast_db[FIRST_BLOCK_ROW:], peaks_db)
    n = len(blocks)
    # The tone rows that would begin in the clip's last moments reach beyond it.
    chroma = np.pad(blocks.chroma, ((0, max(0, n - len(blocks.chroma))), (0, 0)), mode="edge")[:n]
    columns = (blocks.mel_db, blocks.contrast_db, blocks.level_db[:, None], blocks.flux_db[:, None], chroma)
    starts_s = (FIRST_BLOCK_ROW + BLOCK_ROWS * np.arange(n)) / 100.0
    return starts_s, np.concatenate(columns, axis=1)


def cut_to_cut(songs: Sequence[FloatArray], rng: np.random.Generator) -> CutFrames:
    """The frames of a stream of these songs' blocks in random order, each from a random block on, at a random gain."""
    values, since_s = [], []
    stream: list[FloatArray] = []
    starts = []
    position = 0
    for i in rng.permutation(len(songs)):
        song = songs[i].copy()
        first = int(rng.integers(0, _BLOCKS_PER_HOP))
        length = int(rng.integers(_SHORTEST_SONG_BLOCKS, max(_SHORTEST_SONG_BLOCKS + 1, len(song) - first + 1)))
        gain_db = rng.uniform(-_LARGEST_GAIN_DB, _LARGEST_GAIN_DB)
        song[:, :40] += gain_db
        song[:, 47] += gain_db
        stream.append(song[first : first + length])
        starts.append(position)
        position += len(stream[-1])
    rows = np.concatenate(stream)
    mel, contrast, level, flux, chroma = np.split(rows, np.cumsum(_WIDTHS)[:-1], axis=1)
    for end in range(_FIRST_FRAME_BLOCKS + 2 * _BLOCKS_PER_HOP, len(rows) + 1, _BLOCKS_PER_HOP):
        part = slice(max(0, end - _SPAN_BLOCKS), end)
        tones = slice(part.start, end - _TONE_ROWS_MISSING)
        values.append(novelty(Blocks(mel[part], contrast[part], level[part, 0], flux[part, 0], chroma[tones])))
        start = starts[int(np.searchsorted(starts, end, side="left")) - 1]
        since_s.append((end - start) / BLOCKS_PER_S if start else np.inf)
    return CutFrames(np.stack(values), np.array(since_s))


class _Member(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(N_NOVELTY, _N_HIDDEN)
        self.output = nn.Linear(_N_HIDDEN, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.hidden(nn.functional.dropout(rows, 0.1, self.training)))
        logits: torch.Tensor = self.output(nn.functional.dropout(hidden, _DROPOUT, self.training))[:, 0]
        return logits


def fit_detector(frames: CutFrames, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a ChangeDetector that tells frames about a second after a cut from the others."""
    torch.set_num_threads(1)
    found = (frames.since_s >= _FOUND_S[0]) & (frames.since_s < _FOUND_S[1])
    used = found | (frames.since_s > _QUIET_S) | (frames.since_s < _BEFORE_S)
    logs = signed_log(frames.values[used].astype(np.float64))
    offset, spread = logs.mean(axis=0), logs.std(axis=0) + 1e-6
    rows = torch.from_numpy(np.clip((logs - offset) / spread, -5.0, 5.0).astype(np.float32))
    targets = torch.from_numpy(found[used].astype(np.float32))
    members = []
    for number in range(_N_MEMBERS):
        torch.manual_seed(seed + number)
        member = _Member()
        n_steps = _EPOCHS * len(rows) // _BATCH
        optimizer = torch.optim.AdamW(member.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=n_steps)
        for _ in range(n_steps):
            batch = torch.randint(len(rows), (_BATCH,))
            loss = nn.functional.binary_cross_entropy_with_logits(member(rows[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        members.append(member.eval())
    tensors = {
        "offset": torch.from_numpy(offset),
        "spread": torch.from_numpy(spread),
        "hidden_weight": torch.stack([m.hidden.weight.detach().T for m in members]),
        "hidden_bias": torch.stack([m.hidden.bias.detach() for m in members]),
        "weight": torch.stack([m.output.weight.detach()[0] for m in members]),
        "bias": torch.stack([m.output.bias.detach()[0] for m in members]),
    }
    return {name: np.ascontiguousarray(tensor.numpy(), dtype=np.float32) for name, tensor in tensors.items()}


def detection_table(frames: CutFrames, logits: npt.NDArray[np.float64]) -> str:
    """How many cuts are found by the first and the second frame that can, at a number of false frames; Markdown."""
    quiet = frames.since_s > 3.0
    first = np.flatnonzero((frames.since_s >= _FOUND_S[0]) & (frames.since_s < _FOUND_S[0] + 0.5))
    first = first[first + 1 < len(logits)]
    best = np.maximum(logits[first], logits[first + 1])
    lines = ["| false frames per minute | found 0.8 to 1.3 s after a cut | 1.8 s | logit |", "|---|---|---|---|"]
    for per_minute in (1, 2, 3, 5):
        limit = float(np.quantile(logits[quiet], 1.0 - per_minute / 120.0))
        lines.append(
            f"| {per_minute} | {np.mean(logits[first] > limit):.3f} | {np.mean(best > limit):.3f} | {limit:.2f} |"
        )
    return "\n".join(lines) + "\n"


def joined_frames(parts: Sequence[CutFrames]) -> CutFrames:
    """The frames of several streams."""
    return CutFrames(np.concatenate([p.values for p in parts]), np.concatenate([p.since_s for p in parts]))


def by_song(features: Mapping[Path, FloatArray], files: Sequence[Path]) -> list[FloatArray]:
    """The blocks of these files, those that are long enough for a cut."""
    return [features[file] for file in files if file in features and len(features[file]) > _SHORTEST_SONG_BLOCKS]
