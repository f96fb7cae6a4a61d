"""The published table: its own numbers, ours beside them, and what is said of the order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from training_songs import made_up_data, silent_console

from train.config import parse_config
from train.deam import split_songs
from train.loop import fit, scaled, segment_scores, streaming_scores
from train.metrics import DimensionScores, Estimate, Scores
from train.table import PUBLISHED, Run, markdown, order_sentence, run_table

MODELS = ("mlp", "seq2seq", "seq2seq_a")


def scores(valence_r2: float, arousal_r2: float, n_frames: int = 16) -> Scores:
    """Scores whose mean squared error is 1 - R², so that the columns cannot be mistaken for each other."""

    def dimension(r2: float) -> DimensionScores:
        names = ("ccc", "between_song_r2", "within_song_r", "within_song_rmse", "within_song_ccc")
        others = {name: Estimate(0.0, 0.0, 0.0) for name in names}
        return DimensionScores(
            r2=Estimate(r2, 0.0, 0.0),
            mse=Estimate(1 - r2, 0.0, 0.0),
            n_constant_labels=0,
            n_constant_predictions=0,
            **others,
        )

    return Scores(dimension(valence_r2), dimension(arousal_r2), 3, n_frames, 1, 0)


# By model, seed by seed: R² of valence and arousal in segments; streaming is half as good.
R2 = {
    "mlp": [(0.1, 0.5), (0.2, 0.6), (0.3, 0.4)],
    "seq2seq": [(0.2, 0.4), (0.3, 0.7), (0.2, 0.5)],
    "seq2seq_a": [(0.3, 0.3), (0.4, 0.8), (0.1, 0.6)],
}
RUNS = [
    Run(model, seed, 7, scores(*r2), scores(r2[0] / 2, r2[1] / 2, 18))
    for model, by_seed in R2.items()
    for seed, r2 in enumerate(by_seed)
]


def page() -> str:
    return markdown(RUNS, made_up_data(), "the command", "2026-11-22", {"python": "3.11", "torch": "2.13.0"})


def row(model: str, dimension: str) -> list[str]:
    (line,) = [line for line in page().splitlines() if line.startswith(f"| {model} | {dimension} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_published_numbers_are_the_published_ones() -> None:
    # As the table was printed: valence, then arousal, for MLP / seq2seq / seq2seq_a.
    printed = {
        ("r2", "valence"): [".2288", ".2993", ".3064"],
        ("r2", "arousal"): [".5388", ".5584", ".5836"],
        ("mse", "valence"): [".0442", ".0402", ".0398"],
        ("mse", "arousal"): [".0397", ".0380", ".0358"],
    }
    for (score, dimension), numbers in printed.items():
        assert [PUBLISHED[model][dimension][score] for model in MODELS] == [float(number) for number in numbers]
    assert row("MLP", "valence")[3::2][:2] == ["0.2288", "0.0442"]
    assert row("seq2seq_a", "arousal")[3::2][:2] == ["0.5836", "0.0358"]


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
    header, ruler = [line for line in page().splitlines() if line.startswith("|")][:2]
    assert header.count("|") == ruler.count("|") == len(row("MLP", "valence")) + 1
    assert "R² segments | R² published | MSE segments | MSE published | R² streaming | MSE streaming" in header


def test_the_page_says_what_made_it_and_what_was_counted() -> None:
    assert "`the command`, 2026-11-22, with python 3.11, torch 2.13.0." in page()
    assert "DEAM, 40 songs with 800 labelled frames. Seeds 0 to 2" in page()
    assert "seed 0: 3 songs, 2 segments, 16 of 18 frames" in page()


def test_the_order_is_told_as_it_fell() -> None:
    def segments(run: Run) -> Scores:
        return run.segments

    # Valence: twice as published, once the other way round. Arousal: the other way round in the first seed.
    assert order_sentence(RUNS, segments, "valence") == (
        "MLP < seq2seq < seq2seq_a, the published order, in 2 of 3 seeds; seq2seq_a < seq2seq < MLP in 1 of 3 seeds. "
        "In the mean: MLP < seq2seq < seq2seq_a."
    )
    backwards = [replace(run, segments=scores(-run.segments.valence.r2.value, 0.5)) for run in RUNS if run.seed < 2]
    assert order_sentence(backwards, segments, "valence") == (
        "seq2seq_a < seq2seq < MLP in 2 of 2 seeds; the published order in none. "
        "In the mean: seq2seq_a < seq2seq < MLP."
    )
    for line in (
        "- Segments, valence: MLP <",
        "- Segments, arousal: ",
        "- Streaming, valence: ",
        "- Streaming, arousal: ",
    ):
        assert line in page()
    assert "The published order, by R², is MLP < seq2seq < seq2seq_a in both dimensions" in page()


def test_a_run_is_ready_for_json() -> None:
    told = json.loads(json.dumps(RUNS[0].to_dict()))
    assert (told["model"], told["seed"], told["kept_epoch"]) == ("mlp", 0, 7)
    assert told["segments"]["n_frames"] == 16
    assert told["streaming"]["arousal"]["r2"] == 0.25
    assert set(told["segments"]["valence"]) >= {"r2", "mse", "ccc", "within_song_r"}


def test_every_seed_has_its_own_split_and_weights() -> None:
    data = made_up_data(splits=dict.fromkeys(range(1, 41), "train"))
    configs = [
        parse_config({"model": {"name": name, "arguments": {"n_hidden": 4}}, "training": {"epochs": 1}})
        for name in ("mlp", "seq2seq")
    ]
    runs = run_table(configs, data, [5, 6], silent_console())
    assert [(run.model, run.seed) for run in runs] == [("mlp", 5), ("seq2seq", 5), ("mlp", 6), ("seq2seq", 6)]
    # The split that the data prescribe, which has no test songs at all here, is not looked at.
    split = split_songs(data.songs, 6)
    again = fit(replace(configs[1], training=replace(configs[1].training, seed=6)), data, split, silent_console())
    test = scaled(again.scaler, [data.songs[song_id] for song_id in split["test"]])
    assert runs[3].segments == segment_scores(again.model, test, n_bootstrap=1)
    assert runs[3].streaming == streaming_scores(again.model, test, n_bootstrap=1)
    assert runs[3].streaming.n_songs == pytest.approx(4)
