"""`python -m train`: trains models on DEAM and scores them."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.numpy import save as to_safetensors

from realtime_mer.atomic import write_atomically
from realtime_mer.features.changes import ChangeDetector, default_detector_path
from realtime_mer.features.engine import FeatureEngineError
from realtime_mer.features.extraction import ExtractionSettings, describe_configuration
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.workers import default_jobs
from train.baselines import fit_baselines, score_all
from train.calibration import calibrate
from train.calibration import markdown as uncertainty_page
from train.changes import by_song, cut_to_cut, detection_table, extract_blocks, fit_detector, joined_frames
from train.checkpoints import build_model, checkpoint_of, library_versions
from train.config import Config, ConfigError, load_config, parse_config
from train.cross_validation import cross_validate
from train.data import Dataset, load_dataset
from train.deam import DeamError, Split, has_long_stretches, load_deam
from train.explore import explore
from train.explore import markdown as exploration_page
from train.features_cache import FeatureCacheError, default_cache_dir, extract_songs
from train.loop import TrainingResult, fit, scaled, segment_scores, streaming_predictions, streaming_scores
from train.metrics import Scores, markdown_table
from train.others import others_page, rank_table
from train.plots import curves_png, set_png, trajectories_png
from train.robustness import gain_scores, gain_table, set_scores
from train.sequences import SongSequence
from train.table import markdown, run_table
from train.windows import OtherClip, quadrant_clips, rated_clips

_ROOT = Path(__file__).resolve().parents[1]
_PUBLISHED_CONFIGS = tuple(_ROOT / "configs" / f"{name}.toml" for name in ("mlp", "seq2seq", "seq2seq_a"))
_LIVE_CONFIG = _ROOT / "configs" / "live_model.toml"

# Training options up to version 0.1.0.
_RETIRED_OPTIONS = ("feature_noise", "label_lag_s", "long_stretches", "song_mean_share")
_USER_ERROR = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for an error that the user can correct, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        options.command(options, console)
    except (ValueError, OSError, FeatureCacheError, FeatureEngineError) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return _USER_ERROR
    except KeyboardInterrupt:
        console.print("Interrupted. The features extracted so far stay in the cache.")
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description="Trains models on DEAM and scores them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Console], None], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what)
        added.set_defaults(command=run)
        text = "the folder of DEAM, or for `fit` and `crossvalidate` of labelled music of your own (docs/training.md)"
        added.add_argument("--deam", "--data", type=Path, required=True, metavar="DIR", help=text)
        added.add_argument(
            "--cache", type=Path, metavar="DIR", help=f"the feature cache (default: {default_cache_dir()})"
        )
        added.add_argument(
            "--jobs", type=int, metavar="N", help=f"processes for extracting features (default: {default_jobs()})"
        )
        added.add_argument("--quadrants", type=Path, metavar="DIR", help="clips with quadrants, to train on too")
        added.add_argument("--ratings", type=Path, metavar="DIR", help="clips with mean ratings, to train on too")
        return added

    def with_split(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)"
        )
        parser.add_argument(
            "--seed",
            type=_whole_number(0),
            default=0,
            metavar="N",
            help="of the random split, if DEAM comes without one",
        )

    def with_results(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, default=_ROOT / "results", metavar="DIR", help="(default: results)")

    one = command("fit", _fit, "Train one model and write its checkpoint, scores and plots.")
    one.add_argument("config", type=Path, help="a TOML file, such as configs/mlp.toml")
    one.add_argument("--seed", type=_whole_number(0), metavar="N", help="instead of the configuration's training.seed")
    one.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="(default: %(default)s)")
    one.add_argument(
        "--with-validation", action="store_true", help="train on the validation songs too, when everything is chosen"
    )
    one.add_argument("--test", action="store_true", help="also score the test songs: once, at the end")

    table = command("table", _table, "Train the three published models over several splits and write the table.")
    table.add_argument(
        "--seeds", type=_whole_number(2), default=5, metavar="N", help="how many seeds (default: %(default)s)"
    )
    with_results(table)

    compare = command("explore", _explore, "Cross-validate variants of the live model, without the test songs.")
    compare.add_argument(
        "--config", type=Path, default=_LIVE_CONFIG, help="the base (default: configs/live_model.toml)"
    )
    compare.add_argument(
        "--folds", type=_whole_number(1, 5), default=2, help="how many of five folds (default: %(default)s)"
    )
    compare.add_argument("--only", nargs="+", default=[], metavar="NAME", help="groups or names of variants")
    with_results(compare)

    across = command("crossvalidate", _crossvalidate, "Five-fold cross-validation by song over all songs.")
    across.add_argument("config", type=Path, help="a TOML file, such as configs/live_model.toml")
    with_results(across)

    robustness = command(
        "robustness", _robustness, "Score a checkpoint under live conditions: input gains, songs one after the other."
    )
    robustness.add_argument("--checkpoint", type=Path, default=default_checkpoint_path(), metavar="FILE")
    with_split(robustness)
    with_results(robustness)

    changes = command("changes", _changes, "Train the change detector on songs cut to cut, and check it on validation.")
    changes.add_argument(
        "--orders", type=_whole_number(1), default=3, metavar="N", help="of the songs (default: %(default)s)"
    )
    changes.add_argument("--detector", type=Path, default=default_detector_path(), metavar="FILE", help="where it goes")
    with_results(changes)

    calibrate = command(
        "calibrate", _calibrate, "Fit the expected error of a checkpoint's predictions, and store it in the checkpoint."
    )
    calibrate.add_argument("--checkpoint", type=Path, default=default_checkpoint_path(), metavar="FILE")
    with_results(calibrate)

    scores = command("scores", _scores, "Score checkpoints and the baselines by the streaming score.")
    scores.add_argument("--checkpoint", type=Path, nargs="+", default=[], metavar="FILE")
    scores.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    with_split(scores)
    return parser


def _fit(options: argparse.Namespace, console: Console) -> None:
    config = load_config(options.config)
    if options.seed is not None:
        config = replace(config, training=replace(config.training, seed=options.seed))
    folder = options.output / options.config.stem
    folder.mkdir(parents=True, exist_ok=True)
    if options.with_validation and config.training.keep != "last":
        raise ConfigError('--with-validation leaves no songs for choosing an epoch: set training.keep = "last".')
    dataset = _load_for(config, options, console)
    split = dataset.split(config.training.seed)
    if options.with_validation:
        split = {**split, "train": (*split["train"], *split["validation"])}
    result = fit(config, dataset, split, console)

    def inputs(part: str) -> list[SongSequence]:
        songs = [dataset.songs[song_id] for song_id in split[part]]
        return scaled(result.scaler, dataset.selected(songs, result.scaler.names))

    scores = {}
    for part in (["test"] if options.test else []) + ([] if options.with_validation else ["validation"]):
        scores[f"{part}, streaming"] = streaming_scores(result.model, inputs(part))
        if config.training.protocol == "segments":
            scores[f"{part}, segments"] = segment_scores(result.model, inputs(part))
    trained_on = ["train", "validation"] if options.with_validation else ["train"]
    facts = _without_nan({**_training_facts(dataset, split, result, scores), "trained_on": trained_on})
    checkpoint = checkpoint_of(result.model, result.scaler, dataset.extraction, facts)
    save_checkpoint(folder / "model.safetensors", checkpoint)
    history = [epoch.to_dict() for epoch in result.history]
    full = {name: of_part.to_dict() for name, of_part in scores.items()}
    _write_json(folder / "scores.json", {**facts, "scores": full, "history": history, "libraries": library_versions()})
    title = f"{options.config.stem}, seed {config.training.seed}"
    if options.with_validation:
        title += ", trained on the validation songs too"
    write_atomically(folder / "curves.png", curves_png(result.history, result.kept, title))
    # Songs that the model has not been trained on.
    shown = "test" if options.with_validation else "validation"
    if shown == "validation" or options.test:
        predictions = streaming_predictions(result.model, inputs(shown))
        trajectories = trajectories_png(inputs(shown), predictions, f"{title}, {shown}")
        write_atomically(folder / "trajectories.png", trajectories)
    print(markdown_table(scores), end="")
    took = f"{result.duration_s:.0f} s, epoch {result.kept.epoch} kept of {len(result.history)}"
    console.print(f"Trained in {took}. Written to {folder}.", markup=False, highlight=False, soft_wrap=True)


def _table(options: argparse.Namespace, console: Console) -> None:
    configs = [load_config(path) for path in _PUBLISHED_CONFIGS]
    settings = {config.features.extraction() for config in configs}
    if len(settings) > 1:
        raise ConfigError("The configurations of the published models must all have the same features.")
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(options.deam, settings.pop(), console=console, **_extraction(options))
    runs = run_table(configs, dataset, range(options.seeds), console)
    command = f"python -m train table --deam PATH --seeds {options.seeds}"
    date, libraries = datetime.datetime.now(datetime.UTC).date().isoformat(), library_versions()
    page = markdown(runs, dataset, command, date, libraries)
    _publish(options.output / "published_table.md", page)


def _scores(options: argparse.Namespace, console: Console) -> None:
    checkpoints = {path: load_checkpoint(path) for path in options.checkpoint}
    scores: dict[str, Scores] = {}
    # The baselines of the literature use DEAM's own features.
    settings = dict.fromkeys([ExtractionSettings(level=None, descriptors=False)])
    settings |= dict.fromkeys(checkpoint.extraction for checkpoint in checkpoints.values())
    for extraction in settings:
        dataset = load_dataset(options.deam, extraction, console=console, **_extraction(options))
        split = dataset.split(options.seed)
        models = {}
        for path, checkpoint in checkpoints.items():
            if checkpoint.extraction == extraction:
                _check_split(path, checkpoint, dataset, options.seed, options.split)
                models[f"{checkpoint.model_name} ({path})"] = (build_model(checkpoint), checkpoint.scaler)
        features = _features_in_words(extraction)
        baselines = {f"{name} ({features})": baseline for name, baseline in fit_baselines(dataset, split).items()}
        scores |= score_all(dataset, split[options.split], models, baselines)
    table = markdown_table(scores)
    if options.output is not None:
        write_atomically(options.output, table.encode())
    print(table, end="")


def _explore(options: argparse.Namespace, console: Console) -> None:
    base = load_config(options.config).to_dict()
    options.output.mkdir(parents=True, exist_ok=True)
    outcomes = explore(options.deam, base, options.folds, options.only, console, **_extraction(options))
    only = "".join(f" {name!r}" for name in options.only)
    command = f"python -m train explore --deam PATH --folds {options.folds}" + (f" --only{only}" if only else "")
    page = exploration_page(outcomes, options.folds, command)
    _publish(options.output / "exploration.md", page)


def _crossvalidate(options: argparse.Namespace, console: Console) -> None:
    config = load_config(options.config)
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = _load_for(config, options, console, long_stretches=has_long_stretches(options.deam))
    found = cross_validate(config, dataset, console)
    scores, by_time = found.scores, found.by_time
    page = (
        f"# Cross-validation of {options.config.stem}\n\n"
        f"Made by `python -m train crossvalidate configs/{options.config.name} --deam PATH`: five folds by song over "
        f"all {len(dataset.songs)} songs, streaming (one step per frame, no look-ahead, every frame counts), with 95 % "
        "intervals from 1,000 resamples of the songs. The baselines use the same features.\n\n"
        f"{markdown_table(scores)}"
    )
    if by_time:
        page += (
            "\nThe long stretches, each predicted by the model that did not see its song, by time since the first "
            f"sample:\n\n{markdown_table(by_time)}"
        )
    table = rank_table(found.predictions.values())
    if found.others:
        targets = {kind: other.clip_targets for kind, other in dataset.others.items()}
        page += (
            "\nClips from outside DEAM, cross-validated in the same folds: each is predicted by a model trained "
            f"on other clips and on four fifths of DEAM.\n\n{others_page(found.others, targets, table)}"
        )
    _write_json(options.output / f"ranks_{options.config.stem}.json", {"quantiles": table.round(4).tolist()})
    _publish(options.output / f"cross_validation_{options.config.stem}.md", page)


def _changes(options: argparse.Namespace, console: Console) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    deam = load_deam(options.deam)
    if any(song.split is None for song in deam.songs):
        raise DeamError("The change detector is trained on a prescribed split, which these data do not have.")
    audio = {part: [s.audio for s in deam.songs if s.split == part and s.audio] for part in ("train", "validation")}
    extracted = extract_songs(
        [*audio["train"], *audio["validation"]],
        extract_blocks,
        None,
        describe_configuration(ExtractionSettings(None, "responsive", opensmile=False)) + " blocks",
        console=console,
        **_extraction(options),
    )
    blocks = {path: found.values for path, found in extracted.features.items()}
    rng = np.random.default_rng(0)
    trained_on = joined_frames([cut_to_cut(by_song(blocks, audio["train"]), rng) for _ in range(options.orders)])
    tensors = fit_detector(trained_on)
    held_out = cut_to_cut(by_song(blocks, audio["validation"]), rng)
    detector = ChangeDetector(tensors)
    table = detection_table(held_out, np.array([detector.logit(values) for values in held_out.values]))
    write_atomically(options.detector, to_safetensors(tensors))
    page = (
        f"# The change detector\n\nMade by `python -m train changes --deam PATH --orders {options.orders}`: trained on "
        f"{len(audio['train'])} training songs cut to cut in {options.orders} orders, checked on "
        f"{len(audio['validation'])} validation songs cut to cut. A frame more than 3 s after a cut that is "
        f"taken for a change counts as false, though the music itself may have changed there.\n\n{table}"
    )
    _publish(options.output / "changes.md", page)


def _robustness(options: argparse.Namespace, console: Console) -> None:
    checkpoint = load_checkpoint(options.checkpoint)
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(options.deam, checkpoint.extraction, console=console, **_extraction(options))
    _check_split(options.checkpoint, checkpoint, dataset, options.seed, options.split)
    songs = dataset.split(options.seed)[options.split]
    gains = gain_scores(checkpoint, dataset, songs, console, **_extraction(options))
    played = set_scores(checkpoint, dataset, songs, console, **_extraction(options))
    parts = {
        "the whole set": played.whole,
        "the whole set, each song alone": played.alone,
        "the first fifth of the set": played.first,
        "the first fifth, each song alone": played.first_alone,
        "the last fifth of the set": played.last,
        "the last fifth, each song alone": played.last_alone,
    }
    picture = f"set_{options.split}.png"
    title = f"{len(played.songs)} {options.split} songs as one stream"
    write_atomically(options.output / picture, set_png(played.songs, played.predictions, title))
    page = (
        f"# Robustness: input gain, and songs one after the other ({options.split} songs)\n\n"
        f"Made by `python -m train robustness --deam PATH --split {options.split}`.\n\n"
        "## Input gain\n\nStreaming pooled R² of the same songs played at other levels into a 16-bit sound card, "
        "which clips and rounds (at 0 dB too, hence the small difference to the other tables).\n\n"
        f"{gain_table(gains)}\n"
        f"## {title}\n\nCut to cut, through one extraction and one model state: the model "
        "still remembers the song before. Below each part, the same songs alone.\n\n"
        f"{markdown_table(parts)}\n![rated and predicted over the set]({picture})\n"
    )
    _publish(options.output / f"robustness_{options.split}.md", page)


def _calibrate(options: argparse.Namespace, console: Console) -> None:
    checkpoint = load_checkpoint(options.checkpoint)
    config = config_of(options.checkpoint, checkpoint)
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = _load_for(config, options, console)
    outcome = calibrate(config, checkpoint, dataset, console, **_extraction(options))
    save_checkpoint(options.checkpoint, replace(checkpoint, calibration=outcome.calibration))
    page = uncertainty_page(outcome, "python -m train calibrate --deam PATH")
    _publish(options.output / "uncertainty.md", page)
    console.print(f"The calibration is in {options.checkpoint}.", markup=False, highlight=False, soft_wrap=True)


def config_of(path: Path, checkpoint: Checkpoint) -> Config:
    """The configuration of a checkpoint's training. Raises ConfigError if it is missing or cannot be used here."""
    if not checkpoint.training.get("config"):
        raise ConfigError(f"{path} does not hold the configuration of its training: train it again.")
    config = parse_config(_without_retired(checkpoint.training["config"]))
    if config.features.extraction() != checkpoint.extraction:
        raise ConfigError(f"{path} was trained on features that are extracted differently now: train it again.")
    if "test" in checkpoint.training.get("trained_on", ()):
        raise ConfigError(f"{path} was trained on the test songs, so none are left to check the calibration on.")
    return config


def _without_retired(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without options that no longer exist, if they were off: checkpoints of 0.1.0 hold them."""
    training = {key: value for key, value in config["training"].items() if value or key not in _RETIRED_OPTIONS}
    return {**config, "training": training}


def _load_for(
    config: Config, options: argparse.Namespace, console: Console, *, long_stretches: bool = False
) -> Dataset:
    """The data for a configuration."""
    return load_dataset(
        options.deam,
        config.features.extraction(),
        console=console,
        altered_copies=config.training.altered_copies,
        long_stretches=long_stretches,
        sets=config.training.sets,
        set_songs=config.training.set_songs,
        windows=config.training.protocol == "windows",
        others=_other_clips(options),
        **_extraction(options),
    )


def _other_clips(options: argparse.Namespace) -> dict[str, list[OtherClip]]:
    """The clips from outside DEAM that the command line names, by kind."""
    found = {}
    if options.quadrants is not None:
        found["quadrants"] = quadrant_clips(options.quadrants)
    if options.ratings is not None:
        found["ratings"] = rated_clips(options.ratings)
    return found


def _extraction(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of feature extraction."""
    return {"cache_dir": options.cache, "jobs": options.jobs}


def _check_split(path: Path, checkpoint: Checkpoint, dataset: Dataset, seed: int, part: str) -> None:
    """Raises DeamError if the checkpoint was trained on these songs, or on another random split."""
    if part in checkpoint.training.get("trained_on", ()):
        raise DeamError(
            f"{path} was trained on the {part} songs, so they cannot be used for scoring it. Use --split test."
        )
    trained_on = checkpoint.training.get("split_seed")
    if not dataset.prescribes_split and trained_on is not None and trained_on != seed:
        raise DeamError(
            f"{path} was trained on the random split of seed {trained_on}, not {seed}: use --seed {trained_on}."
        )


def _training_facts(
    dataset: Dataset, split: Split, result: TrainingResult, scores: Mapping[str, Scores]
) -> dict[str, Any]:
    """The facts on its training that a checkpoint holds, ready for JSON."""
    config = result.config
    return {
        "data": _data_facts(dataset),
        "split": {part: len(song_ids) for part, song_ids in split.items()},
        "split_seed": None if dataset.prescribes_split else config.training.seed,
        "config": config.to_dict(),
        "kept_epoch": result.kept.epoch,
        "duration_s": round(result.duration_s, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "scores": {name: _brief(of_part) for name, of_part in scores.items()},
    }


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    frames = sum(int(sequence.labelled.sum()) for sequence in dataset.songs.values())
    return {"name": "DEAM", "songs": len(dataset.songs), "labelled_frames": frames}


def _brief(scores: Scores) -> dict[str, dict[str, float]]:
    """R² and mean squared error of both dimensions."""
    dimensions = {"valence": scores.valence, "arousal": scores.arousal}
    return {name: {"r2": found.r2.value, "mse": found.mse.value} for name, found in dimensions.items()}


def _features_in_words(extraction: ExtractionSettings) -> str:
    descriptors = " + descriptors" if extraction.descriptors else ""
    return f"DEAM's 260{descriptors}{'' if extraction.level is None else ', levelled'}"


def _publish(path: Path, page: str) -> None:
    """Writes a page of results, and prints it."""
    write_atomically(path, page.encode())
    print(page, end="")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(_without_nan(values), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def _without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _without_nan(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(element) for element in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """The type of an option."""

    def number(text: str) -> int:
        value = int(text)
        if value < lowest or (highest is not None and value > highest):
            wanted = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {value}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
