"""`python -m train` from end to end, on a few real clips and on a small folder of features alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_songs import few_clips, official

from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.models.checkpoint import load_checkpoint
from train import __main__ as command_line
from train.__main__ import main

pytestmark = pytest.mark.slow
SPLITS = {18: "train", 219: "train", 1007: "validation", 1101: "test"}
PNG = b"\x89PNG\r\n\x1a\n"


def read_json(path: Path) -> dict[str, Any]:
    """Raises ValueError for the NaN and Infinity that JSON does not have."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return content


def rows(page: str) -> dict[tuple[str, str], list[str]]:
    """The rows of a Markdown table by their first two cells."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    return {(row[0], row[1]): row[2:] for row in cells}


@pytest.fixture(scope="module")
def clips(deam_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_clips(deam_root, tmp_path_factory.mktemp("deam") / "few", SPLITS)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text('[model]\nname = "seq2seq"\narguments = {n_hidden = 4}\n[training]\nepochs = 3\n')
    return path


def test_fit_writes_a_checkpoint_scores_and_pictures(
    clips: Path, cache_dir: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["--deam", str(clips), "--cache", str(cache_dir), "--jobs", "2"]
    assert main(["fit", str(config), *fixed, "--output", str(tmp_path / "out"), "--seed", "3"]) == 0
    printed, errors = capsys.readouterr()
    folder = tmp_path / "out" / "small"
    assert sorted(file.name for file in folder.iterdir()) == [
        "curves.png",
        "model.safetensors",
        "scores.json",
        "trajectories.png",
    ]
    assert all((folder / name).read_bytes().startswith(PNG) for name in ("curves.png", "trajectories.png"))
    scored = {name for name, _ in rows(printed)} - {"model"}
    assert scored == {"validation, streaming", "validation, segments"}
    assert "4 songs with" in errors
    assert "Written to" in errors

    checkpoint = load_checkpoint(folder / "model.safetensors")
    assert (checkpoint.model_name, checkpoint.model_arguments["n_hidden"]) == ("seq2seq", 4)
    assert checkpoint.extraction == ExtractionSettings(level=None, descriptors=False)
    assert checkpoint.training["config"]["training"]["seed"] == 3
    assert checkpoint.training["split"] == {"train": 2, "validation": 1, "test": 1}
    assert str(tmp_path) not in json.dumps(checkpoint.training)
    scores = read_json(folder / "scores.json")
    assert [epoch["epoch"] for epoch in scores["history"]] == [1, 2, 3]
    mse = scores["scores"]["validation, streaming"]["valence"]["mse"]["value"]
    assert mse == checkpoint.training["scores"]["validation, streaming"]["valence"]["mse"]
    # With one song there is no R² between songs, and JSON has no NaN.
    assert scores["scores"]["validation, streaming"]["valence"]["between_song_r2"]["value"] is None

    # The same again, with the test songs: the same weights.
    again = tmp_path / "again"
    assert main(["fit", str(config), *fixed, "--output", str(again), "--seed", "3", "--test"]) == 0
    scored = {name for name, _ in rows(capsys.readouterr().out)} - {"model"}
    assert scored == {f"{part}, {kind}" for part in ("validation", "test") for kind in ("streaming", "segments")}
    weights = load_checkpoint(again / "small" / "model.safetensors").weights
    assert all(np.array_equal(weights[name], checkpoint.weights[name]) for name in weights)

    # Scoring the checkpoint later prints the same numbers.
    path = str(folder / "model.safetensors")
    assert main(["scores", *fixed, "--checkpoint", path, "--split", "validation"]) == 0
    later = rows(capsys.readouterr().out)
    for dimension in ("valence", "arousal"):
        assert later[f"seq2seq ({path})", dimension] == rows(printed)["validation, streaming", dimension]
    baselines = {name for name, _ in later} - {"model", f"seq2seq ({path})"}
    assert baselines == {f"{name} (DEAM's 260)" for name in ("constant", "ridge, single frames", "ridge, running mean")}


def test_the_table_is_made_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = official(tmp_path, range(1, 9))
    output = tmp_path / "results"
    arguments = ["table", "--deam", str(root), "--cache", str(tmp_path / "cache"), "--output", str(output)]
    assert main([*arguments, "--seeds", "2"]) == 0
    page = (output / "published_table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page
    assert {name for name, _ in rows(page)} == {"model", "MLP", "seq2seq", "seq2seq_a"}
    assert "`python -m train table --deam PATH --seeds 2`" in page
    assert all(str(tmp_path) not in file.read_text(encoding="utf-8") for file in output.iterdir())


def test_a_checkpoint_of_another_random_split_is_not_scored(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = official(tmp_path, range(1, 13))
    fixed = ["--deam", str(root), "--cache", str(tmp_path / "cache")]
    assert main(["fit", str(config), *fixed, "--output", str(tmp_path / "out"), "--seed", "3"]) == 0
    checkpoint = str(tmp_path / "out" / "small" / "model.safetensors")
    assert main(["scores", *fixed, "--checkpoint", checkpoint, "--seed", "4"]) == 2
    assert "was trained on the random split of seed 3, not 4: use --seed 3." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "{config}", "--deam", "{tmp_path}/nowhere"], "nowhere is missing"),
        (["fit", "{config}", "--deam", "{tmp_path}"], "does not look like DEAM"),
        (["fit", "{tmp_path}/none.toml", "--deam", "{tmp_path}"], "the settings cannot be read"),
        (["scores", "--deam", "{tmp_path}", "--checkpoint", "{config}"], "is no safetensors file, or is not whole"),
        (["table", "--deam", "{tmp_path}", "--output", "{config}"], "small.toml"),
        (["fit", "{config}", "--deam", "{deam}", "--cache", "{tmp_path}", "--jobs", "0"], "at least one job, not 0"),
        (["table", "--deam", "{deam}", "--cache", "{tmp_path}", "--output", "{tmp_path}"], "4 songs cannot be split"),
    ],
)
def test_mistakes_are_reported_without_a_traceback(
    arguments: list[str],
    message: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    deam = tmp_path / "deam"
    if "{deam}" in arguments:
        deam.mkdir()
        official(deam, range(1, 5))
    places = {"config": config, "tmp_path": tmp_path, "deam": deam}
    assert main([argument.format(**places) for argument in arguments]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize(
    "arguments", [["table", "--deam", "x", "--seeds", "1"], ["fit", "x", "--deam", "x", "--seed", "-1"]]
)
def test_impossible_numbers_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert arguments[-1] in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "load_dataset", interrupted)
    assert main(["fit", str(config), "--deam", "x", "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err.startswith("Interrupted.")
