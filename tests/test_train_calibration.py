"""Calibration: fits with known answers, tables counted by hand, and the command on a few real clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import CALIBRATION, Metadata, Tensors, rewrite
from safetensors import safe_open
from training_songs import few_clips, made_up_data, made_up_song, official, silent_console, song_sequence

from realtime_mer.features.extraction import frame_names
from realtime_mer.models.architectures import MODELS, LiveModel, StreamingModel
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint
from realtime_mer.models.scaling import Scaler
from train import calibration as module
from train.__main__ import main
from train.calibration import (
    FORMS,
    MEMBERS,
    READOUT,
    Comparison,
    Errors,
    Float64Array,
    Form,
    Outcome,
    Stated,
    calibration_of,
    compare,
    errors_of,
    fit_variance,
    in_a_row,
    markdown,
    reliability,
    settling,
    stated,
)
from train.data import Dataset
from train.loop import scaled, streaming_predictions
from train.sequences import SongSequence

# --- the fit


def drawn(variance: Float64Array, seed: int = 0) -> Float64Array:
    """Squares of Gaussian errors with these variances."""
    squares: Float64Array = np.random.default_rng(seed).normal(size=len(variance)) ** 2 * variance
    return squares


def test_the_fit_finds_what_the_errors_were_drawn_from() -> None:
    rng = np.random.default_rng(1)
    n = 200_000
    heard_s, term, other = rng.uniform(0.0, 10.0, n), rng.exponential(0.002, n), rng.exponential(3.0, n)
    variance = 0.02 + 7.0 * term + 0.03 * np.exp(-heard_s / 2.0)
    fitted = fit_variance(drawn(variance), [term, other], heard_s, fading=True)
    assert fitted.constant == pytest.approx(0.02, rel=0.05)
    assert fitted.coefficients[0] == pytest.approx(7.0, rel=0.05)
    assert fitted.coefficients[1] == pytest.approx(0.0, abs=1e-4)
    assert fitted.early == pytest.approx(0.03, rel=0.05)
    assert fitted.decay_s == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(fitted.variance([term, other], heard_s), variance, rtol=0.1)


def test_a_constant_is_the_mean_square() -> None:
    squared = drawn(np.full(1000, 0.04))
    fitted = fit_variance(squared, [], np.linspace(0.0, 10.0, 1000), fading=False)
    assert fitted.constant == pytest.approx(squared.mean(), rel=1e-4)
    assert (fitted.coefficients, fitted.early) == ((), 0.0)
    np.testing.assert_allclose(fitted.variance([], np.array([1.0, 7.0])), squared.mean(), rtol=1e-4)


def test_no_likelihood_near_the_fit_is_higher() -> None:
    """Each number moved a little in either direction, for errors that no form fits."""
    rng = np.random.default_rng(2)
    heard_s, term = rng.uniform(0.0, 10.0, 500), rng.uniform(0.0, 1.0, 500)
    squared = rng.exponential(0.03 * (1.0 + term**2 + 1.0 / (1.0 + heard_s)))
    fitted = fit_variance(squared, [term], heard_s, fading=True)

    def likelihood(of: module.Fitted) -> float:
        variance = of.variance([term], heard_s)
        return -float(np.mean(np.log(variance) + squared / variance))

    best = likelihood(fitted)
    for factor in (0.9, 1.1):
        assert likelihood(replace(fitted, constant=factor * fitted.constant)) < best
        assert likelihood(replace(fitted, coefficients=(factor * fitted.coefficients[0],))) < best
        assert likelihood(replace(fitted, early=factor * fitted.early)) < best
        assert likelihood(replace(fitted, decay_s=factor * fitted.decay_s)) < best


def made_up_errors(
    n_songs: int, telling: str | None = None, *, fading: bool = False, first_s: float = 1.0, seed: int = 0
) -> Errors:
    """Clips of 18 frames, with two terms of which one, or none, tells the variance; arousal's is twice valence's."""
    rng = np.random.default_rng(seed)
    shape = (n_songs, 18, 2)
    terms = {name: rng.exponential(1.0, shape) for name in (MEMBERS, READOUT)}
    heard_s = np.broadcast_to(first_s + 0.5 * np.arange(18), shape[:2])
    variance = np.full(shape, 0.02)
    if telling is not None:
        variance += 0.03 * terms[telling]
    if fading:
        variance += 0.04 * np.exp(-heard_s / 2.0)[..., None]
    variance[..., 1] *= 2.0
    return Errors(
        song=np.repeat(np.arange(n_songs), 18),
        heard_s=heard_s.reshape(-1),
        error=(rng.normal(size=shape) * np.sqrt(variance)).reshape(-1, 2),
        label=rng.uniform(-1.0, 1.0, shape).reshape(-1, 2),
        terms={name: term.reshape(-1, 2) for name, term in terms.items()},
    )


def test_the_calibration_is_the_form_that_fades() -> None:
    errors = made_up_errors(4000, fading=True)
    found = calibration_of(errors)
    assert (found.valence.settled, found.arousal.settled) == pytest.approx((0.02, 0.04), rel=0.1)
    assert (found.valence.early, found.arousal.early) == pytest.approx((0.04, 0.08), rel=0.15)
    assert (found.valence.decay_s, found.arousal.decay_s) == pytest.approx((2.0, 2.0), rel=0.2)
    assert found.label_variance == pytest.approx(np.var(errors.label[:, 0]) + np.var(errors.label[:, 1]))


def test_nothing_fades_where_the_first_label_comes_late() -> None:
    found = calibration_of(made_up_errors(200, fading=True, first_s=15.0))
    assert (found.valence.early, found.arousal.early) == (0.0, 0.0)
    assert found.valence.settled == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("telling", "fading", "best"),
    [
        (None, False, {"constant"}),
        (None, True, {"time"}),
        (MEMBERS, False, {"members' spread"}),
        (READOUT, False, {"network against readout"}),
        (READOUT, True, {"time, network against readout"}),
    ],
)
def test_the_form_that_the_errors_have_gains_most(telling: str | None, fading: bool, best: set[str]) -> None:
    """By an amount that is more than chance; a term that tells nothing adds nothing that is."""
    comparisons = compare(made_up_errors(150, telling, fading=fading))
    assert [comparison.form for comparison in comparisons] == list(FORMS)
    assert not comparisons[0].gain.any()
    gains = {comparison.form.name: comparison.gain.sum(axis=1) for comparison in comparisons}
    assert all(gain.shape == (150,) for gain in gains.values())
    largest = max(gain.mean() for gain in gains.values())
    within_reach = {name for name, gain in gains.items() if gain.mean() > largest - 0.004}
    assert best <= within_reach
    needed = {name for form in FORMS if form.name in best for name in form.terms}
    for form in FORMS:
        lacks = not needed <= set(form.terms) or (fading and not form.fading)
        if lacks:
            assert form.name not in within_reach


def test_a_song_is_not_told_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A song is held out as a whole, and everything else is fitted on, in each of the partitions once."""
    errors = made_up_errors(25)
    asked = []

    def noted(given: Errors, form: Form, held_out: np.ndarray) -> Float64Array:
        if form == FORMS[0]:
            asked.append(held_out)
        return np.zeros((int(held_out.sum()), 2))

    monkeypatch.setattr(module, "_held_out_likelihood", noted)
    compare(errors)
    assert len(asked) == 5 * 10
    for partition in np.split(np.array(asked), 5):
        assert (partition.sum(axis=0) == 1).all()
        for held_out in partition:
            of_song = held_out.reshape(25, 18)
            assert (of_song.all(axis=1) == of_song.any(axis=1)).all()
            assert of_song.any(axis=1).sum() in (2, 3)


def test_what_is_held_out_has_no_part_in_the_fit() -> None:
    """A gain does not depend on how wild the song itself was: only its own likelihood does."""
    errors = made_up_errors(40, fading=True)
    held_out = errors.song == 7
    wild = replace(errors, error=np.where(held_out[:, None], 50.0 * errors.error, errors.error))
    time = FORMS[1]
    calm, loud = (module._held_out_likelihood(of, time, held_out) for of in (errors, wild))
    # The same variance stated for both, so that the likelihoods differ by the squares alone.
    fitted = [
        fit_variance(errors.error[~held_out, k] ** 2, (), errors.heard_s[~held_out], fading=True) for k in range(2)
    ]
    variance = np.stack([of.variance((), errors.heard_s[held_out]) for of in fitted], axis=1)
    squares = errors.error[held_out] ** 2
    np.testing.assert_allclose(calm, -0.5 * np.log(2.0 * np.pi * variance) - 0.5 * squares / variance, rtol=1e-9)
    np.testing.assert_allclose(calm - loud, 0.5 * (2500.0 - 1.0) * squares / variance, rtol=1e-9)


def test_one_song_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="takes two at least"):
        compare(made_up_errors(1))


def test_settling_compares_a_song_with_itself() -> None:
    """Three songs of six frames; the last has only late ones, and no part in it."""
    heard_s = np.array([*(1.0 + np.arange(6)), *(1.0 + np.arange(6)), 5.0, 6.0])
    song = np.repeat([0, 1, 2], [6, 6, 2])
    error = np.zeros((14, 2))
    error[[0, 1, 2], 0] = [1.0, 2.0, 5.0]  # squares 1, 4 and 25 early,
    error[[4, 5], 0] = [1.0, 1.0]  # 1 and 1 late.
    error[[10, 11], 1] = [2.0, 0.0]
    error[12:] = 100.0
    errors = Errors(song, heard_s, error, np.zeros((14, 2)), {})
    np.testing.assert_allclose(settling(errors), [[9.0, 0.0], [0.0, -2.0]])


# --- what a model says


def live_model(n_features: int = 4) -> LiveModel:
    torch.manual_seed(0)
    model = LiveModel(n_features, n_running=2, n_members=3, n_embedding=8, n_hidden=4, n_attention=4)
    model.linear_weight.copy_(0.3 * torch.randn_like(model.linear_weight))
    return model


def songs_of_several_lengths() -> list[SongSequence]:
    """Of 12, 7 and 9 frames; the second has labels from its third frame on."""
    songs = [made_up_song(song_id, n_frames) for song_id, n_frames in ((1, 12), (2, 7), (3, 9))]
    songs[1] = replace(songs[1], labelled=np.arange(7) >= 2)
    return songs


def test_the_errors_are_those_of_the_predictions() -> None:
    model, songs = live_model(), songs_of_several_lengths()
    errors = errors_of(model, songs)
    labelled = [song.labelled for song in songs]
    predictions = [rows[mask] for rows, mask in zip(streaming_predictions(model, songs), labelled, strict=True)]
    labels = np.concatenate([song.labels[mask] for song, mask in zip(songs, labelled, strict=True)])
    np.testing.assert_array_equal(errors.song, np.repeat([0, 1, 2], [12, 5, 9]))
    np.testing.assert_array_equal(errors.heard_s[12:17], 1.0 + 0.5 * np.arange(2, 7))
    np.testing.assert_array_equal(errors.label, labels)
    np.testing.assert_allclose(errors.error, np.concatenate(predictions) - labels, rtol=0.0, atol=1e-6)


def test_the_terms_are_what_the_models_parts_disagree_by() -> None:
    model, song = live_model(), made_up_song(5, 6)
    errors = errors_of(model, [song])
    sequence = torch.from_numpy(song.features)[None]
    with torch.no_grad():
        members = model.training_pass(sequence).predictions[:, 0].double().numpy()
        inputs = model.inputs(sequence)[0].double()
        linear = (inputs @ model.linear_weight.double() + model.linear_bias.double()).clamp(-1.0, 1.0).numpy()
    mean = members.mean(axis=0)
    assert errors.terms.keys() == {MEMBERS, READOUT}
    np.testing.assert_allclose(errors.terms[MEMBERS], ((members - mean) ** 2).mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(errors.terms[READOUT], (model.linear_share * (linear - mean)) ** 2, rtol=1e-3)


@pytest.mark.parametrize("name", ["mlp", "seq2seq_a"])
def test_models_in_one_piece_have_no_terms(name: str) -> None:
    torch.manual_seed(0)
    model: StreamingModel = MODELS[name](4)
    errors = errors_of(model, songs_of_several_lengths())
    assert errors.terms == {}
    assert [comparison.form.name for comparison in compare(errors)] == ["constant", "time"]


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
    checkpoint = Checkpoint.of_model(live_model(), scaler, dataset.extraction, {})
    return replace(dataset, names=names), replace(checkpoint, calibration=CALIBRATION)


def test_what_is_stated_is_what_the_predictor_says() -> None:
    dataset, checkpoint = deam_songs()
    songs = list(dataset.songs.values())
    songs[1] = replace(songs[1], labelled=np.array([False, True, True, False, True, True]))
    said = stated(checkpoint, [[song] for song in songs])
    errors = errors_of(
        checkpoint.build_model(), scaled(checkpoint.scaler, dataset.selected(songs, checkpoint.feature_names))
    )
    for name in ("song", "heard_s", "label"):
        np.testing.assert_array_equal(getattr(said, name), getattr(errors, name), name)
    np.testing.assert_allclose(said.error, errors.error, rtol=0.0, atol=1e-6)
    np.testing.assert_array_equal(said.frame, [*range(6), 1, 2, 4, 5, *range(6)])
    expected = np.array([CALIBRATION.after(heard_s) for heard_s in said.heard_s])
    np.testing.assert_array_equal(np.column_stack([said.sd, said.confidence]), expected)


def test_songs_in_one_stream_are_heard_with_what_was_before() -> None:
    dataset, checkpoint = deam_songs()
    songs = list(dataset.songs.values())
    in_stream = [replace(song, end_s=song.end_s + 3.0 * i) for i, song in enumerate(songs)]
    alone, together = stated(checkpoint, [[song] for song in songs]), stated(checkpoint, [in_stream])
    first = alone.song == 0
    np.testing.assert_array_equal(together.song, alone.song)
    np.testing.assert_array_equal(together.frame, alone.frame)
    np.testing.assert_array_equal(together.error[first], alone.error[first])
    assert np.abs(together.error - alone.error)[~first].min() > 0.0
    np.testing.assert_array_equal(together.heard_s, 1.0 + 0.5 * np.arange(18))
    assert together.confidence[-1] == CALIBRATION.after(9.5).confidence


def test_what_is_not_calibrated_states_nothing() -> None:
    dataset, checkpoint = deam_songs()
    with pytest.raises(ValueError, match="holds no calibration"):
        stated(replace(checkpoint, calibration=None), [list(dataset.songs.values())])


def test_songs_without_audio_are_not_played() -> None:
    dataset, _ = deam_songs()
    assert in_a_row(dataset, [1, 2, 3], silent_console()) == ()


# --- how well it holds


def made_up_statement(n_songs: int = 300, n_frames: int = 20, overstated: float = 1.0) -> Stated:
    """Errors with the sd that is stated for them, times 1 / overstated; another one in each frame of a song."""
    rng = np.random.default_rng(0)
    frame = np.tile(np.arange(n_frames), n_songs)
    sd = np.stack([0.1 + 0.01 * frame, np.full(len(frame), 0.2)], axis=1)
    return Stated(
        song=np.repeat(np.arange(n_songs), n_frames),
        frame=frame,
        heard_s=1.0 + 0.5 * frame.astype(np.float64),
        error=rng.normal(size=sd.shape) * sd,
        label=rng.normal(size=sd.shape) * 0.5,
        sd=overstated * sd,
        confidence=1.0 - (sd**2).sum(axis=1),
    )


def test_where_it_holds_everything_is_as_gaussian_errors_have_it() -> None:
    said = made_up_statement()
    valence, arousal = reliability(said, 0), reliability(said, 1)
    for of in (valence, arousal):
        assert of.standardised.value == pytest.approx(1.0, abs=0.03)
        assert of.standardised.low < 1.0 < of.standardised.high
        assert of.within_1 == pytest.approx(0.683, abs=0.02)
        assert of.within_2 == pytest.approx(0.954, abs=0.01)
        assert of.rmse == pytest.approx(of.sd, rel=0.03)
    assert valence.sd == pytest.approx(math.sqrt(np.mean((0.1 + 0.01 * np.arange(20)) ** 2)))
    assert valence.rank_correlation.value > 0.15
    assert valence.rank_correlation.low > 0.0
    assert math.isnan(arousal.rank_correlation.value)


def test_where_it_does_not_it_shows() -> None:
    modest = reliability(made_up_statement(overstated=2.0), 1)
    assert modest.standardised.value == pytest.approx(0.5, abs=0.02)
    assert modest.within_1 == pytest.approx(0.954, abs=0.01)
    boasting = reliability(made_up_statement(overstated=0.5), 1)
    assert boasting.standardised.value == pytest.approx(2.0, abs=0.08)
    assert boasting.within_2 == pytest.approx(0.683, abs=0.02)


def test_intervals_come_from_whole_songs() -> None:
    """Frames that repeat their song's error tell no more than one of them."""
    once = made_up_statement(50, 1)
    rows = np.repeat(np.arange(50), 20)
    repeated = Stated(*(getattr(once, name)[rows] for name in once.__dataclass_fields__))
    one, twenty = reliability(once, 1).standardised, reliability(repeated, 1).standardised
    assert (one.value, one.low, one.high) == pytest.approx((twenty.value, twenty.low, twenty.high))


def cells(page: str, first: str) -> list[list[str]]:
    """The rows of a page's tables whose first cell is this, without it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return [row[1:] for row in rows if row[0] == first]


def test_the_page_has_the_numbers() -> None:
    """Two songs of three frames each, counted by hand."""
    said = Stated(
        song=np.array([0, 0, 0, 1, 1, 1]),
        frame=np.array([0, 1, 4, 0, 1, 4]),
        heard_s=np.array([1.0, 1.5, 3.0, 1.0, 1.5, 3.0]),
        error=np.array([[0.4, 0.0], [0.1, 0.2], [0.1, 0.0], [0.0, 0.2], [0.1, 0.2], [-0.1, 0.2]]),
        label=np.array([[0.5, 0.2], [0.0, 0.0], [0.5, 0.2], [-0.5, -0.2], [0.0, 0.0], [-0.5, -0.2]]),
        sd=np.array([[0.2, 0.1], [0.2, 0.1], [0.1, 0.1]] * 2),
        confidence=np.array([0.2, 0.3, 0.6, 0.2, 0.3, 0.7]),
    )
    outcome = Outcome(
        comparisons=[
            Comparison(FORMS[0], np.zeros((2, 2))),
            Comparison(FORMS[1], np.array([[0.001, 0.002], [0.003, -0.004]])),
        ],
        calibration=Calibration(ErrorVariance(0.04, 0.02, 2.5), ErrorVariance(0.01, 0.03, 5.0), 0.25),
        settling=np.array([[0.1, 0.02], [0.3, 0.04]]),
        alone={"validation": replace(said, error=2.0 * said.error), "test": said},
        cut_to_cut={"test": said},
    )
    page = markdown(outcome, "the command")
    assert "`the command`" in page
    assert "2 validation songs" in page
    assert cells(page, "time") == [["+2.0 ± 1.0", "-1.0 ± 3.0", "+1.0 ± 2.0"]]
    assert cells(page, "constant") == []
    assert "falls by 0.2000 ± 0.1000 (valence) and 0.0300 ± 0.0100 (arousal)" in page
    assert cells(page, "valence") == [["0.0400", "0.0200", "2.50"]]
    assert cells(page, "arousal") == [["0.0100", "0.0300", "5.00"]]
    assert "variance of 0.2500" in page
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
    assert "confidence is 0.600 to 0.700 over the test songs, 0.650 in the median" in page
    assert cells(page, "0 to 2 s") == [["1.06", "1.73"]]
    assert cells(page, "2 to 4 s") == [["1.00", "1.41"]]


def test_without_any_difference_in_confidence_every_frame_is_in_both_thirds() -> None:
    said = made_up_statement(30)
    table = module._thirds_table(replace(said, confidence=np.full(len(said.song), 0.5)))
    least, most = cells(table, "least confident"), cells(table, "most confident")
    assert least == most
    assert least[0][1] == f"{math.sqrt(np.mean(said.error[:, 0] ** 2)):.3f}"


def test_a_moment_after_the_cut_that_few_songs_reach_is_left_out() -> None:
    said = made_up_statement(30, 8)
    longer = replace(said, frame=np.where(np.arange(240) >= 238, said.frame + 2, said.frame))
    assert cells(module._cut_table(longer), "2 to 4 s")
    assert not cells(module._cut_table(longer), "4 to 6 s")


# --- the command

SPLITS = {18: "train", 219: "train", 1007: "validation", 1101: "validation", 829: "test", 1000: "test"}


def contents(path: Path) -> tuple[str, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """A file's metadata, and type, shape and bytes of its tensors."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata()["realtime_mer"], {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in tensors.items()}


def write_config(folder: Path) -> Path:
    path = folder / "small.toml"
    path.write_text(
        '[model]\nname = "live"\narguments = {n_hidden = 4, n_members = 2, n_embedding = 8, n_attention = 4}\n'
        '[features]\nscaler = "signed_log_standard"\n'
        '[training]\nprotocol = "sequences"\nepochs = 2\nkeep = "last"\n'
    )
    return path


def test_the_command_writes_the_calibration_and_nothing_else(
    deam_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, config = few_clips(deam_root, tmp_path / "few", SPLITS), write_config(tmp_path)
    fixed = ["--deam", str(clips), "--cache", str(tmp_path / "cache"), "--jobs", "2"]
    assert main(["fit", str(config), *fixed, "--with-validation", "--output", str(tmp_path)]) == 0
    checkpoint = tmp_path / "small" / "model.safetensors"
    metadata, tensors = contents(checkpoint)
    capsys.readouterr()
    command = ["calibrate", *fixed, "--checkpoint", str(checkpoint), "--output", str(tmp_path / "results")]
    assert main(command) == 0

    calibrated, same_tensors = contents(checkpoint)
    assert same_tensors == tensors
    found = load_checkpoint(checkpoint).calibration
    assert found is not None
    assert calibrated.startswith(metadata[:-1] + ', "calibration": {')
    page = (tmp_path / "results" / "uncertainty.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page
    assert "`python -m train calibrate --deam PATH`" in page
    assert str(tmp_path) not in page
    said = found.after(5.0)
    assert cells(page, "5 s") == [[f"{value:.3f}" for value in said]]
    assert {row[0] for part in ("validation", "test") for row in cells(page, part)} == {"valence", "arousal"}
    assert "## Songs after songs" in page
    assert "Test songs by the time since the cut" in page

    # The model in its place has not been trained on the validation songs: the one that `fit` makes without them.
    assert main(["fit", str(config), *fixed, "--output", str(tmp_path / "without")]) == 0
    without = load_checkpoint(tmp_path / "without" / "small" / "model.safetensors")
    mse = without.training["scores"]["validation, streaming"]
    rmse = [row[1] for row in cells(page, "validation")[:2]]
    assert rmse == [f"{math.sqrt(mse[dimension]['mse']):.3f}" for dimension in ("valence", "arousal")]

    # Again, on what is calibrated already: the same bytes.
    before = checkpoint.read_bytes()
    assert main(command) == 0
    assert checkpoint.read_bytes() == before
    assert (tmp_path / "results" / "uncertainty.md").read_text(encoding="utf-8") == page


def official_fit(tmp_path: Path) -> tuple[list[str], Path]:
    """The command for a small model that was trained on a folder without sound, and the model's file."""
    config = tmp_path / "small.toml"
    config.write_text('[model]\nname = "seq2seq"\narguments = {n_hidden = 4}\n[training]\nepochs = 1\nseed = 3\n')
    fixed = ["--deam", str(official(tmp_path, range(1, 31))), "--cache", str(tmp_path / "cache")]
    assert main(["fit", str(config), *fixed, "--output", str(tmp_path)]) == 0
    checkpoint = tmp_path / "small" / "model.safetensors"
    return ["calibrate", *fixed, "--checkpoint", str(checkpoint), "--output", str(tmp_path / "results")], checkpoint


def test_any_model_can_be_calibrated_and_songs_need_no_sound(tmp_path: Path) -> None:
    command, checkpoint = official_fit(tmp_path)
    assert main(command) == 0
    found = load_checkpoint(checkpoint).calibration
    assert found is not None
    assert (found.valence.early, found.arousal.early) == (0.0, 0.0)
    page = (tmp_path / "results" / "uncertainty.md").read_text(encoding="utf-8")
    assert "3 validation songs" in page
    assert "Songs after songs" not in page
    assert cells(page, "members' spread") == []


def without_config(metadata: Metadata, tensors: Tensors) -> None:
    del metadata["training"]["config"]


def with_another_level_stage(metadata: Metadata, tensors: Tensors) -> None:
    metadata["training"]["config"]["features"]["level"] = True


def trained_on_the_test_songs(metadata: Metadata, tensors: Tensors) -> None:
    metadata["training"]["trained_on"] = ["train", "test"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_config, "does not tell the configuration that it was trained with: train it again."),
        (with_another_level_stage, "was trained on features that are extracted otherwise now: train it again."),
        (
            trained_on_the_test_songs,
            "was trained on the test songs, so none are left to tell how well the calibration holds.",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_calibrated_is_left_alone(
    change: Callable[[Metadata, Tensors], None],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, checkpoint = official_fit(tmp_path)
    rewrite(checkpoint, change)
    before = checkpoint.read_bytes()
    assert main(command) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert checkpoint.read_bytes() == before
    assert not list(tmp_path.glob("results/*"))
