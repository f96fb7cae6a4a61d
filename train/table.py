"""The three published models, trained again over several splits, compared with the published numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from train.config import Config
from train.data import Dataset
from train.deam import split_songs
from train.loop import fit, scaled, segment_scores, streaming_scores
from train.metrics import DIMENSIONS, Scores
from train.sequences import SEGMENT_FRAMES

# By model and dimension: R² and mean squared error, on DEAM, 80/10/10 by song.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "mlp": {"valence": {"r2": 0.2288, "mse": 0.0442}, "arousal": {"r2": 0.5388, "mse": 0.0397}},
    "seq2seq": {"valence": {"r2": 0.2993, "mse": 0.0402}, "arousal": {"r2": 0.5584, "mse": 0.0380}},
    "seq2seq_a": {"valence": {"r2": 0.3064, "mse": 0.0398}, "arousal": {"r2": 0.5836, "mse": 0.0358}},
}
# By R², of valence and of arousal alike.
_PUBLISHED_ORDER = ("mlp", "seq2seq", "seq2seq_a")
_LABELS = {"mlp": "MLP", "seq2seq": "seq2seq", "seq2seq_a": "seq2seq_a"}


@dataclass(frozen=True, eq=False)
class Run:
    """One model trained on one seed's split, and its scores on the test songs."""

    model: str
    seed: int
    kept_epoch: int
    segments: Scores
    streaming: Scores


def run_table(configs: Sequence[Config], dataset: Dataset, seeds: Sequence[int], console: Console) -> list[Run]:
    """Trains every configuration on every seed's own random split of the songs, and scores it on the test songs."""
    runs = []
    for seed in seeds:
        split = split_songs(dataset.songs, seed)
        for config in configs:
            seeded = replace(config, training=replace(config.training, seed=seed))
            result = fit(seeded, dataset, split, console)
            songs = [dataset.songs[song_id] for song_id in split["test"]]
            test = scaled(result.scaler, dataset.selected(songs, result.scaler.names))
            segments = segment_scores(result.model, test, n_bootstrap=1)
            streaming = streaming_scores(result.model, test, n_bootstrap=1)
            runs.append(Run(config.model.name, seed, result.kept.epoch, segments, streaming))
    return runs


def markdown(runs: Sequence[Run], dataset: Dataset, command: str, date: str, libraries: Mapping[str, str]) -> str:
    """The table as a Markdown page. command: the command that made it; libraries: versions by name."""
    seeds = sorted({run.seed for run in runs})
    models = list(dict.fromkeys(run.model for run in runs))
    first = runs[0]
    n_labelled = sum(int(sequence.labelled.sum()) for sequence in dataset.songs.values())
    columns = ("model", "dimension", *(f"{score} {of}" for score in ("R²", "MSE") for of in ("segments", "published")))
    columns += ("R² streaming", "MSE streaming")
    lines = [
        "# The three published models, trained again",
        "",
        f"`{command}`, {date}, with {', '.join(f'{name} {version}' for name, version in libraries.items())}.",
        "",
        f"DEAM, {len(dataset.songs):,} songs with {n_labelled:,} labelled frames. Seeds {seeds[0]} to {seeds[-1]}: "
        "each draws its own split by song, 80 % train, 10 % validation, 10 % test, and the model's first weights; the "
        "epoch with the least error on the validation songs' segments is kept. Mean ± standard deviation over the "
        f"{len(seeds)} seeds, on the test songs. “Published” is the table that this repeats. Batch size, segments per "
        "epoch and L2, which it does not give, were chosen on one fixed split's validation songs, some of which are "
        "test songs here.",
        "",
        "- *Segments*, the published protocol: each test song's labelled frames are cut into consecutive segments of "
        f"{SEGMENT_FRAMES}, and a model sees the whole of a segment before its first prediction. Frames left over, "
        f"fewer than {SEGMENT_FRAMES}, do not count (seed {first.seed}: {first.segments.n_songs} songs, "
        f"{first.segments.n_frames // SEGMENT_FRAMES} segments, {first.segments.n_frames} of "
        f"{first.streaming.n_frames} frames).",
        "- *Streaming*, as in a live run: the same models, one prediction per frame from that frame and those before "
        "it; every labelled frame counts.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    for model in models:
        for dimension in DIMENSIONS:
            published = PUBLISHED[model][dimension]
            cells = [
                _LABELS[model],
                dimension,
                _mean_and_deviation(_values(runs, model, _segments, dimension, "r2")),
                _decimal(published["r2"]),
                _mean_and_deviation(_values(runs, model, _segments, dimension, "mse")),
                _decimal(published["mse"]),
                _mean_and_deviation(_values(runs, model, _streaming, dimension, "r2")),
                _mean_and_deviation(_values(runs, model, _streaming, dimension, "mse")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"The published order, by R², is {_order_in_words(_PUBLISHED_ORDER)} in both dimensions. Here:", ""]
    for title, scores in (("Segments", _segments), ("Streaming", _streaming)):
        lines += [f"- {title}, {dimension}: {order_sentence(runs, scores, dimension)}" for dimension in DIMENSIONS]
    return "\n".join(lines) + "\n"


def order_sentence(runs: Sequence[Run], scores: Callable[[Run], Scores], dimension: str) -> str:
    """The models' orders of R², with the number of seeds each, and their order in the mean."""
    models = list(dict.fromkeys(run.model for run in runs))
    seeds = sorted({run.seed for run in runs})
    r2 = {model: _values(runs, model, scores, dimension, "r2") for model in models}
    orders = Counter(tuple(sorted(models, key=lambda model: r2[model][k])) for k in range(len(seeds)))
    in_mean = tuple(sorted(models, key=lambda model: statistics.mean(r2[model])))
    parts = []
    for order, count in orders.most_common():
        the_published = ", the published order," if order == _PUBLISHED_ORDER else ""
        parts.append(f"{_order_in_words(order)}{the_published} in {count} of {len(seeds)} seeds")
    not_seen = "" if _PUBLISHED_ORDER in orders else "; the published order in none"
    return f"{'; '.join(parts)}{not_seen}. In the mean: {_order_in_words(in_mean)}."


def _segments(run: Run) -> Scores:
    return run.segments


def _streaming(run: Run) -> Scores:
    return run.streaming


def _values(runs: Sequence[Run], model: str, scores: Callable[[Run], Scores], dimension: str, name: str) -> list[float]:
    """One model's score in every seed, by ascending seed."""
    of_model = sorted((run for run in runs if run.model == model), key=lambda run: run.seed)
    return [float(getattr(getattr(scores(run), dimension), name).value) for run in of_model]


def _order_in_words(models: Sequence[str]) -> str:
    return " < ".join(_LABELS[model] for model in models)


def _mean_and_deviation(values: Sequence[float]) -> str:
    return f"{_decimal(statistics.mean(values))} ± {_decimal(statistics.stdev(values))}"


def _decimal(value: float) -> str:
    """Four places, as the published table has."""
    return f"{value:.4f}"
