"""Calibration: fits with known answers, tables calculated by hand, and the command on a few real clips."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import CALIBRATION
from in_process import run_in_process
from training_songs import (
    few_clips,
    made_up_data,
    made_up_song,
    official,
    silent_console,
    song_sequence,
)

from realtime_mer.features.extraction import frame_names
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.models.scaling import Scaler
from train import calibration as module
from train import features_cache
from train.__main__ import config_of, main
from train.calibration import (
    Errors,
    Outcome,
    errors_of,
    fit_calibration,
    fit_variance,
    in_a_row,
    markdown,
    reliability,
)
from train.checkpoints import build_model, checkpoint_of
from train.config import ConfigError
from train.data import Dataset
from train.loop import scaled, streaming_predictions
from train.models import LiveModel

# --- the fit


def test_no_likelihood_near_the_fit_is_higher() -> None:
    """Each parameter moved a little in either direction, for errors that the form does not fit exactly."""
    rng = np.random.default_rng(2)
    elapsed_s = rng.uniform(0.0, 10.0, 500)
    squared = rng.exponential(0.03 * (1.0 + 1.0 / (1.0 + elapsed_s)))
    fitted = fit_variance(squared, elapsed_s)

    def likelihood(of: ErrorVariance) -> float:
        variance = np.array([of.at(time_s) for time_s in elapsed_s])
        return -float(np.mean(np.log(variance) + squared / variance))

    best = likelihood(fitted)
    for factor in (0.9, 1.1):
        for name in ("settled", "early", "decay_s"):
            assert likelihood(replace(fitted, **{name: factor * getattr(fitted, name)})) < best, name


def made_up_errors(n_songs: int, first_s: float = 1.0) -> Errors:
    """Clips of 18 frames whose errors decay over time; arousal's variance is twice valence's."""
    rng = np.random.default_rng(0)
    shape = (n_songs, 18, 2)
    elapsed_s = np.broadcast_to(first_s + 0.5 * np.arange(18), shape[:2])
    variance = (0.02 + 0.04 * np.exp(-elapsed_s / 2.0))[..., None] * np.array([1.0, 2.0])
    return Errors(
        song=np.repeat(np.arange(n_songs), 18),
        frame=np.tile(np.arange(18), n_songs),
        elapsed_s=elapsed_s.reshape(-1),
        error=(rng.normal(size=shape) * np.sqrt(variance)).reshape(-1, 2),
        label=rng.uniform(-1.0, 1.0, shape).reshape(-1, 2),
        sd=np.full((18 * n_songs, 2), math.nan),
        confidence=np.full(18 * n_songs, math.nan),
    )


def test_both_dimensions_are_fitted() -> None:
    errors = made_up_errors(4000)
    found = fit_calibration(errors)
    assert (found.valence.settled, found.arousal.settled) == pytest.approx((0.02, 0.04), rel=0.1)
    assert (found.valence.early, found.arousal.early) == pytest.approx((0.04, 0.08), rel=0.15)
    assert (found.valence.decay_s, found.arousal.decay_s) == pytest.approx((2.0, 2.0), rel=0.2)
    assert found.label_variance == pytest.approx(np.var(errors.label[:, 0]) + np.var(errors.label[:, 1]))
    # Nothing decays if the first label comes late.
    late = fit_calibration(made_up_errors(200, first_s=15.0))
    assert (late.valence.early, late.arousal.early) == (0.0, 0.0)
    assert late.valence.settled == pytest.approx(0.02, rel=0.1)


# --- the errors of a model


def deam_songs(n_songs: int = 3) -> tuple[Dataset, Checkpoint]:
    """Songs with DEAM's 260 features, and a calibrated model of four of them."""
    songs = []
    for song_id in range(1, n_songs + 1):
        made_up = made_up_song(song_id, 6)
        features = np.random.default_rng(song_id).normal(size=(6, 260)).astype(np.float32)
        songs.append(song_sequence(song_id, features, made_up.labels))
    dataset = made_up_data(songs)
    names = frame_names(dataset.extraction)
    chosen = [names[column] for column in (7, 3, 200, 11)]
    columns = np.concatenate([song.features for song in songs])[:, [7, 3, 200, 11]]
    scaler = Scaler.fit("signed_log_standard", columns, chosen)
    torch.manual_seed(0)
    model = LiveModel(4, n_running=2, n_members=3, n_embedding=8, n_hidden=4, n_attention=4)
    model.linear_weight.copy_(0.3 * torch.randn_like(model.linear_weight))
    checkpoint = checkpoint_of(model, scaler, dataset.extraction, {})
    return replace(dataset, names=names), replace(checkpoint, calibration=CALIBRATION)


def test_the_errors_are_those_of_the_predictions() -> None:
    dataset, checkpoint = deam_songs()
    songs = list(dataset.songs.values())
    songs[1] = replace(songs[1], labelled=np.array([False, True, True, False, True, True]))
    errors = errors_of(checkpoint, [[song] for song in songs])
    inputs = scaled(checkpoint.scaler, dataset.selected(songs, checkpoint.feature_names))
    predictions = np.concatenate(streaming_predictions(build_model(checkpoint), inputs))
    labels = np.concatenate([song.labels for song in songs])
    labelled = np.concatenate([song.labelled for song in songs])
    np.testing.assert_array_equal(errors.song, np.repeat([0, 1, 2], [6, 4, 6]))
    np.testing.assert_array_equal(errors.frame, [*range(6), 1, 2, 4, 5, *range(6)])
    np.testing.assert_array_equal(errors.elapsed_s, 1.0 + 0.5 * errors.frame)
    np.testing.assert_array_equal(errors.label, labels[labelled])
    np.testing.assert_allclose(errors.error, (predictions - labels)[labelled], rtol=0.0, atol=1e-6)
    expected = np.array([CALIBRATION.after(elapsed_s) for elapsed_s in errors.elapsed_s])
    np.testing.assert_array_equal(np.column_stack([errors.sd, errors.confidence]), expected)
    uncalibrated = errors_of(replace(checkpoint, calibration=None), [[song] for song in songs])
    np.testing.assert_array_equal(uncalibrated.error, errors.error)
    assert np.isnan(uncalibrated.sd).all()


def test_songs_in_one_stream_carry_the_state_over() -> None:
    dataset, checkpoint = deam_songs()
    songs = list(dataset.songs.values())
    in_stream = [replace(song, end_s=song.end_s + 3.0 * i) for i, song in enumerate(songs)]
    alone, together = errors_of(checkpoint, [[song] for song in songs]), errors_of(checkpoint, [in_stream])
    first = alone.song == 0
    np.testing.assert_array_equal(together.song, alone.song)
    np.testing.assert_array_equal(together.frame, alone.frame)
    np.testing.assert_array_equal(together.error[first], alone.error[first])
    assert np.abs(together.error - alone.error)[~first].min() > 0.0
    np.testing.assert_array_equal(together.elapsed_s, 1.0 + 0.5 * np.arange(18))
    assert together.confidence[-1] == CALIBRATION.after(9.5).confidence
    # Songs without audio cannot be played in a row.
    assert in_a_row(dataset, [1, 2, 3], silent_console()) == ()


# --- reliability


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_N_BOOTSTRAP", 100)
    monkeypatch.setattr(features_cache, "run_in_workers", run_in_process)


def calibrated_errors(n_songs: int = 300, n_frames: int = 20, factor: float = 1.0) -> Errors:
    """Errors whose sd is overestimated by a factor; a different sd in each frame of a song."""
    rng = np.random.default_rng(0)
    frame = np.tile(np.arange(n_frames), n_songs)
    sd = np.stack([0.1 + 0.01 * frame, np.full(len(frame), 0.2)], axis=1)
    return Errors(
        song=np.repeat(np.arange(n_songs), n_frames),
        frame=frame,
        elapsed_s=1.0 + 0.5 * frame.astype(np.float64),
        error=rng.normal(size=sd.shape) * sd,
        label=rng.normal(size=sd.shape) * 0.5,
        sd=factor * sd,
        confidence=1.0 - (sd**2).sum(axis=1),
    )


def test_a_right_sd_gives_the_numbers_of_gaussian_errors() -> None:
    errors = calibrated_errors()
    valence, arousal = reliability(errors, 0), reliability(errors, 1)
    for of in (valence, arousal):
        assert of.standardised.low < 1.0 < of.standardised.high
        assert of.rmse == pytest.approx(of.sd, rel=0.03)
    assert valence.sd == pytest.approx(math.sqrt(np.mean((0.1 + 0.01 * np.arange(20)) ** 2)))
    assert valence.rank_correlation.value > 0.15
    assert valence.rank_correlation.low > 0.0
    assert math.isnan(arousal.rank_correlation.value)


@pytest.mark.parametrize("dimension", [0, 1])
@pytest.mark.parametrize(
    ("factor", "standardised", "within_1", "within_2"), [(1.0, 1.0, 0.683, 0.954), (2.0, 0.5, 0.954, 1.0)]
)
def test_a_wrong_sd_shows(dimension: int, factor: float, standardised: float, within_1: float, within_2: float) -> None:
    found = reliability(calibrated_errors(factor=factor), dimension)
    assert found.standardised.value == pytest.approx(standardised, rel=0.04)
    assert found.within_1 == pytest.approx(within_1, abs=0.02)
    assert found.within_2 == pytest.approx(within_2, abs=0.02)


def test_intervals_come_from_whole_songs() -> None:
    """Frames that repeat their song's error add no information."""
    once = calibrated_errors(50, 1)
    rows = np.repeat(np.arange(50), 20)
    repeated = Errors(*(getattr(once, name)[rows] for name in once.__dataclass_fields__))
    one, twenty = reliability(once, 1).standardised, reliability(repeated, 1).standardised
    assert (one.value, one.low, one.high) == pytest.approx((twenty.value, twenty.low, twenty.high))


def cells(page: str, first: str) -> list[list[str]]:
    """The rows of a page's tables whose first cell is this, without it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return [row[1:] for row in rows if row[0] == first]


def test_the_page_has_the_numbers() -> None:
    """Two songs of three frames each, calculated by hand."""
    errors = Errors(
        song=np.array([0, 0, 0, 1, 1, 1]),
        frame=np.array([0, 1, 4, 0, 1, 4]),
        elapsed_s=np.array([1.0, 1.5, 3.0, 1.0, 1.5, 3.0]),
        error=np.array([[0.4, 0.0], [0.1, 0.2], [0.1, 0.0], [0.0, 0.2], [0.1, 0.2], [-0.1, 0.2]]),
        label=np.array([[0.5, 0.2], [0.0, 0.0], [0.5, 0.2], [-0.5, -0.2], [0.0, 0.0], [-0.5, -0.2]]),
        sd=np.array([[0.2, 0.1], [0.2, 0.1], [0.1, 0.1]] * 2),
        confidence=np.array([0.2, 0.3, 0.6, 0.2, 0.3, 0.7]),
    )
    outcome = Outcome(
        calibration=Calibration(ErrorVariance(0.04, 0.02, 2.5), ErrorVariance(0.01, 0.03, 5.0), 0.25),
        alone={"validation": replace(errors, error=2.0 * errors.error), "test": errors},
        cut_to_cut={"test": errors},
    )
    page = markdown(outcome, "the command")
    assert cells(page, "valence") == [["0.0400", "0.0200", "2.50"]]
    assert cells(page, "arousal") == [["0.0100", "0.0300", "5.00"]]
    confidence = 1.0 - (0.05 + 0.02 * math.exp(-0.4) + 0.03 * math.exp(-0.2)) / 0.25
    assert cells(page, "1 s") == [
        [
            f"{math.sqrt(0.04 + 0.02 * math.exp(-0.4)):.3f}",
            f"{math.sqrt(0.01 + 0.03 * math.exp(-0.2)):.3f}",
            f"{confidence:.3f}",
        ]
    ]
    # Standardised errors, valence: 2, .5, 1, 0, .5, -1; arousal: 0, 2, 0, 2, 2, 2.
    alone, in_stream = cells(page, "test")[:2], cells(page, "test")[2:]
    assert alone == in_stream
    assert [row[0] for row in alone] == ["valence", "arousal"]
    assert [row[1] for row in alone] == ["0.183", "0.163"]
    assert [row[2] for row in alone] == ["0.173", "0.100"]
    assert [row[3].split()[0] for row in alone] == ["1.04", "1.63"]
    assert [row[4:6] for row in alone] == [["83.3%", "100.0%"], ["33.3%", "100.0%"]]
    assert alone[1][6] == "–"
    assert [row[3].split()[0] for row in cells(page, "validation")] == ["2.08", "3.27"]
    assert cells(page, "least confident") == [["0.200", "0.283", "0.141", "0.680", "0.500"]]
    assert cells(page, "most confident") == [["0.650", "0.100", "0.141", "0.960", "0.500"]]
    assert cells(page, "0 to 2 s") == [["1.06", "1.73"]]
    assert cells(page, "2 to 4 s") == [["1.00", "1.41"]]


def test_times_after_the_cut_that_few_songs_reach_are_left_out() -> None:
    errors = calibrated_errors(30, 8)
    longer = replace(errors, frame=np.where(np.arange(240) >= 238, errors.frame + 2, errors.frame))
    assert cells(module._cut_table(longer), "2 to 4 s")
    assert not cells(module._cut_table(longer), "4 to 6 s")


# --- the command

SPLITS = {18: "train", 219: "train", 1007: "validation", 1101: "validation", 829: "test", 1000: "test"}
LIVE = (
    '[model]\nname = "live"\narguments = {n_hidden = 4, n_members = 2, n_embedding = 8, n_attention = 4}\n'
    '[features]\nscaler = "signed_log_standard"\n'
    '[training]\nprotocol = "sequences"\nepochs = 2\nkeep = "last"\n'
)
SEQ2SEQ = '[model]\nname = "seq2seq"\narguments = {n_hidden = 4}\n[training]\nepochs = 1\nseed = 3\n'


@dataclass(frozen=True)
class Commands:
    """`fit` and `calibrate` of one model on one data set, run in a folder."""

    folder: Path
    deam: Path
    config: str

    def fit(self, *more: str, output: str = "") -> Path:
        """The checkpoint."""
        path = self.folder / "small.toml"
        path.write_text(self.config)
        assert main(["fit", str(path), *self._fixed, *more, "--output", str(self.folder / output)]) == 0
        return self.folder / output / "small" / "model.safetensors"

    def calibrate(self, checkpoint: Path) -> str:
        """The page."""
        results = self.folder / "results"
        assert main(["calibrate", *self._fixed, "--checkpoint", str(checkpoint), "--output", str(results)]) == 0
        return (results / "uncertainty.md").read_text(encoding="utf-8")

    @property
    def _fixed(self) -> list[str]:
        return ["--deam", str(self.deam), "--cache", str(self.folder / "cache"), "--jobs", "2"]


@pytest.mark.slow
def test_the_command_writes_the_calibration_and_nothing_else(
    deam_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands(tmp_path, few_clips(deam_root, tmp_path / "few", SPLITS), LIVE)
    checkpoint = commands.fit("--with-validation")
    before = load_checkpoint(checkpoint)
    capsys.readouterr()
    page = commands.calibrate(checkpoint)

    after = load_checkpoint(checkpoint)
    assert after.weights.keys() == before.weights.keys()
    assert all(np.array_equal(after.weights[name], before.weights[name]) for name in before.weights)
    assert (after.training, after.extraction) == (before.training, before.extraction)
    found = after.calibration
    assert found is not None
    assert capsys.readouterr().out == page
    assert "`python -m train calibrate --deam PATH`" in page
    assert str(tmp_path) not in page
    assert cells(page, "5 s") == [[f"{value:.3f}" for value in found.after(5.0)]]
    assert {row[0] for part in ("validation", "test") for row in cells(page, part)} == {"valence", "arousal"}
    assert "## Songs after songs" in page
    assert "Test songs by the time since the cut" in page

    # The validation errors are those of the model that `fit` trains without the validation songs.
    mse = load_checkpoint(commands.fit(output="without")).training["scores"]["validation, streaming"]
    rmse = [row[1] for row in cells(page, "validation")[:2]]
    assert rmse == [f"{math.sqrt(mse[dimension]['mse']):.3f}" for dimension in ("valence", "arousal")]

    # Calibrating again gives the same bytes.
    content = checkpoint.read_bytes()
    assert commands.calibrate(checkpoint) == page
    assert checkpoint.read_bytes() == content


@pytest.mark.slow
def test_any_model_can_be_calibrated_without_audio(tmp_path: Path) -> None:
    commands = Commands(tmp_path, official(tmp_path, range(1, 17)), SEQ2SEQ)
    checkpoint = commands.fit()
    page = commands.calibrate(checkpoint)
    found = load_checkpoint(checkpoint).calibration
    assert found is not None
    assert (found.valence.early, found.arousal.early) == (0.0, 0.0)
    assert "2 validation songs" in page
    assert "Songs after songs" not in page


def test_the_shipped_checkpoint_can_be_calibrated() -> None:
    """Its configuration holds options that were off and have been removed since."""
    checkpoint = load_checkpoint(default_checkpoint_path())
    config = config_of(default_checkpoint_path(), checkpoint)
    assert config.features.extraction() == checkpoint.extraction


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("training", {"label_lag_s": 1.0}, "label_lag_s"),
        ("features", {"level": False}, "was trained on features that are extracted differently now"),
        (None, {"trained_on": ["train", "test"]}, "was trained on the test songs"),
        (None, {"config": None}, "does not hold the configuration of its training"),
    ],
)
def test_a_checkpoint_that_cannot_be_calibrated_is_refused(
    section: str | None, changes: dict[str, Any], message: str
) -> None:
    checkpoint = load_checkpoint(default_checkpoint_path())
    training = copy.deepcopy(dict(checkpoint.training))
    (training if section is None else training["config"][section]).update(changes)
    with pytest.raises(ConfigError, match=message):
        config_of(Path("model.safetensors"), replace(checkpoint, training=training))
