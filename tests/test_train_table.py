"""The published table: published numbers, ours beside them, and the order of the models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_songs import made_up_data, made_up_scores, silent_console

from train.config import parse_config
from train.deam import split_songs
from train.loop import fit, scaled, segment_scores, streaming_scores
from train.metrics import Scores
from train.table import Run, markdown, order_sentence, run_table

# By model, seed by seed: R² of valence and arousal in segments; streaming is half as good.
R2 = {
    "mlp": [(0.1, 0.5), (0.2, 0.6), (0.3, 0.4)],
    "seq2seq": [(0.2, 0.4), (0.3, 0.7), (0.2, 0.5)],
    "seq2seq_a": [(0.3, 0.3), (0.4, 0.8), (0.1, 0.6)],
}
RUNS = [
    Run(model, seed, 7, made_up_scores(*r2), made_up_scores(r2[0] / 2, r2[1] / 2, n_frames=18))
    for model, by_seed in R2.items()
    for seed, r2 in enumerate(by_seed)
]


def page() -> str:
    return markdown(RUNS, made_up_data(), "the command", "2026-11-22", {"python": "3.11", "torch": "2.13.0"})


def row(model: str, dimension: str) -> list[str]:
    (line,) = [line for line in page().splitlines() if line.startswith(f"| {model} | {dimension} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_mean_and_deviation_over_the_seeds() -> None:
    assert row("seq2seq", "valence") == [
        "seq2seq",
        "valence",
        "0.2333 ± 0.0577",
        "0.2993",
        "0.7667 ± 0.0577",
        "0.0402",
        "0.1167 ± 0.0289",
        "0.8833 ± 0.0289",
    ]


def test_the_page_has_the_counts() -> None:
    assert "40 songs with 800 labelled frames. Seeds 0 to 2" in page()
    assert "seed 0: 3 songs, 2 segments, 16 of 18 frames" in page()


def test_the_order_of_the_models() -> None:
    def segments(run: Run) -> Scores:
        return run.segments

    # Valence: twice as published, once the other way round. Arousal: the other way round in the first seed.
    assert order_sentence(RUNS, segments, "valence") == (
        "MLP < seq2seq < seq2seq_a, the published order, in 2 of 3 seeds; seq2seq_a < seq2seq < MLP in 1 of 3 seeds. "
        "In the mean: MLP < seq2seq < seq2seq_a."
    )
    backwards = [
        replace(run, segments=made_up_scores(-run.segments.valence.r2.value, 0.5)) for run in RUNS if run.seed < 2
    ]
    assert order_sentence(backwards, segments, "valence") == (
        "seq2seq_a < seq2seq < MLP in 2 of 2 seeds; the published order in none. "
        "In the mean: seq2seq_a < seq2seq < MLP."
    )
    for line in ("Segments, valence: MLP <", "Segments, arousal: ", "Streaming, valence: ", "Streaming, arousal: "):
        assert f"- {line}" in page()


@pytest.mark.slow
def test_every_seed_has_its_own_split_and_weights() -> None:
    data = made_up_data(splits=dict.fromkeys(range(1, 41), "train"))
    configs = [
        parse_config({"model": {"name": name, "arguments": {"n_hidden": 4}}, "training": {"epochs": 1}})
        for name in ("mlp", "seq2seq")
    ]
    runs = run_table(configs, data, [5, 6], silent_console())
    assert [(run.model, run.seed) for run in runs] == [("mlp", 5), ("seq2seq", 5), ("mlp", 6), ("seq2seq", 6)]
    # The split that the data define, which has no test songs here, is not used.
    split = split_songs(data.songs, 6)
    again = fit(replace(configs[1], training=replace(configs[1].training, seed=6)), data, split, silent_console())
    test = scaled(again.scaler, [data.songs[song_id] for song_id in split["test"]])
    assert runs[3].segments == segment_scores(again.model, test, n_bootstrap=1)
    assert runs[3].streaming == streaming_scores(again.model, test, n_bootstrap=1)
    assert runs[3].streaming.n_songs == pytest.approx(4)
