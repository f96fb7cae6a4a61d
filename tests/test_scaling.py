"""The scaler: fitted on training frames, and applied to any stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from contract import FRAME_CHUNKS, Outputs, verify_contract
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from realtime_mer.models.scaling import BOUND, Scaler, ScalerKind

Array = npt.NDArray[np.float64]
KINDS: tuple[ScalerKind, ...] = ("min_max", "signed_log_standard")
NAMES = ("energy", "pitch", "constant", "silent", "tiny")


@pytest.fixture(scope="module")
def frames() -> Array:
    """Features as unlike one another as DEAM's: large and skewed, signed, constant, always zero, and minute."""
    rng = np.random.default_rng(0)
    energy, pitch = rng.lognormal(10.0, 2.0, 500), rng.normal(-3.0, 50.0, 500)
    return np.stack([energy, pitch, np.full(500, 0.1), np.zeros(500), rng.normal(0.0, 1e-7, 500)], axis=1)


def test_min_max_spans_the_training_frames(frames: Array) -> None:
    scaler = Scaler.fit("min_max", frames, NAMES)
    scaled = scaler.transform(frames)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled.min(axis=0), 0.0)
    np.testing.assert_array_equal(scaled.max(axis=0), [1.0, 1.0, 0.0, 0.0, 1.0])
    lowest, span = frames[:, 0].min(), np.ptp(frames[:, 0])
    np.testing.assert_allclose(scaled[:, 0], (frames[:, 0] - lowest) / span, rtol=1e-6)
    # Beyond the training frames, too.
    assert scaler.transform(np.array([lowest + 3.0 * span, 0.0, 0.1, 0.0, 0.0]))[0] == pytest.approx(3.0, rel=1e-6)


def test_signed_log_standardises_the_training_frames(frames: Array) -> None:
    scaled = Scaler.fit("signed_log_standard", frames, NAMES).transform(frames).astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), [1.0, 1.0, 0.0, 0.0, 1.0], atol=1e-6)
    pitch = frames[:, 1]
    logs = np.sign(pitch) * np.log1p(np.abs(pitch) / np.median(np.abs(pitch)))
    np.testing.assert_allclose(scaled[:, 1], (logs - logs.mean()) / logs.std(), rtol=1e-5, atol=1e-6)


def test_a_feature_that_is_mostly_zero_is_scaled_by_its_other_values() -> None:
    values = np.zeros((9, 1))
    values[:3, 0] = [2.0, -4.0, 6.0]
    scaler = Scaler.fit("signed_log_standard", values, ["clicks"])
    assert scaler.log_scale is not None
    assert scaler.log_scale[0] == 4.0


@pytest.mark.parametrize("kind", KINDS)
def test_an_outlier_is_bounded_and_keeps_its_side(kind: ScalerKind, frames: Array) -> None:
    scaler = Scaler.fit(kind, frames, NAMES)
    extreme = np.finfo(np.float64).max
    np.testing.assert_array_equal(scaler.transform(np.full(5, extreme)), [BOUND, BOUND, 0.0, 0.0, BOUND])
    np.testing.assert_array_equal(scaler.transform(np.full(5, -extreme)), [-BOUND, -BOUND, 0.0, 0.0, -BOUND])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(data=st.data())
def test_any_finite_features_scale_to_finite_ordered_values(kind: ScalerKind, data: st.DataObject) -> None:
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    training = data.draw(hnp.arrays(np.float32, (data.draw(st.integers(1, 6)), 2), elements=finite))
    scaler = Scaler.fit(kind, training, ("a", "b"))
    stream = data.draw(hnp.arrays(np.float32, (5, 2), elements=finite))
    scaled = scaler.transform(stream)
    assert scaled.shape == stream.shape
    assert np.all(np.abs(scaled) <= BOUND)
    for feature in range(2):
        order = np.argsort(stream[:, feature], kind="stable")
        assert np.all(np.diff(scaled[order, feature]) >= 0.0)


@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 3, 5)])
def test_any_leading_shape_is_kept(shape: tuple[int, ...], frames: Array) -> None:
    scaler = Scaler.fit("signed_log_standard", frames, NAMES)
    scaled = scaler.transform(frames[: int(np.prod(shape[:-1]))].reshape(shape))
    assert scaled.shape == shape
    np.testing.assert_array_equal(scaled.reshape(-1, 5), scaler.transform(frames)[: scaled.size // 5])


class ScalerStage:
    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler

    def step(self, chunk: Any, /) -> Outputs:
        return self._scaler.transform(chunk)

    def flush(self) -> Outputs:
        return []


@pytest.mark.parametrize("kind", KINDS)
def test_streaming_contract(kind: ScalerKind, frames: Array) -> None:
    scaler = Scaler.fit(kind, frames, NAMES)
    signal = frames[:101].astype(np.float32)
    verify_contract(lambda: ScalerStage(scaler), signal, stateful=False, chunks=FRAME_CHUNKS)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_rebuild_the_scaler(kind: ScalerKind, frames: Array) -> None:
    scaler = Scaler.fit(kind, frames, NAMES)
    rebuilt = Scaler.from_arrays(scaler.kind, scaler.names, scaler.arrays())
    np.testing.assert_array_equal(rebuilt.transform(frames), scaler.transform(frames))
    assert (rebuilt.kind, rebuilt.names) == (kind, NAMES)
    assert all(array.shape == (5,) and array.dtype == np.float64 for array in scaler.arrays().values())
    with pytest.raises(ValueError, match="read-only"):
        scaler.offset[0] = 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(kind: ScalerKind, bad: float, frames: Array) -> None:
    broken = frames.copy()
    broken[7, 3] = broken[2, 4] = bad
    message = r"'silent' \(number 4 of 5\) is -?(nan|inf)"
    with pytest.raises(ValueError, match=message):
        Scaler.fit(kind, broken, NAMES)
    scaler = Scaler.fit(kind, frames, NAMES)
    for values in (broken, broken[7], broken[None]):
        with pytest.raises(ValueError, match=message):
            scaler.transform(values)


def test_a_wrong_kind_or_shape_is_refused(frames: Array) -> None:
    scaler = Scaler.fit("min_max", frames, NAMES)
    shapes: list[tuple[int, ...]] = [(), (4,), (3, 6)]
    for shape in shapes:
        with pytest.raises(ValueError, match="Expected 5 features per frame"):
            scaler.transform(np.zeros(shape))
    with pytest.raises(ValueError, match="no scaler 'robust'; choose one of min_max, signed_log_standard"):
        Scaler.fit("robust", frames, NAMES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected 4 features per frame"):
        Scaler.fit("min_max", frames, NAMES[:4])
    for values in (frames[:0], frames[0]):
        with pytest.raises(ValueError, match="shape"):
            Scaler.fit("min_max", values, NAMES)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("none", {}, "no scaler"),
        ("min_max", {}, "expected"),
        ("signed_log_standard", {"more": np.ones(5)}, "expected"),
        ("signed_log_standard", {"spread": np.ones(4)}, "spread must have one value for each of its 5"),
        ("signed_log_standard", {"offset": np.full(5, np.nan)}, "offset for feature 'energy' cannot be nan"),
        ("signed_log_standard", {"spread": -np.ones(5)}, "spread for feature 'energy' cannot be -1"),
        ("signed_log_standard", {"log_scale": np.zeros(5)}, "log_scale for feature 'energy' cannot be 0"),
    ],
)
def test_wrong_arrays_of_a_checkpoint_are_refused(
    kind: str, changes: dict[str, Array], message: str, frames: Array
) -> None:
    arrays = Scaler.fit("signed_log_standard", frames, NAMES).arrays()
    with pytest.raises(ValueError, match=message):
        Scaler.from_arrays(kind, NAMES, arrays | changes)
    with pytest.raises(ValueError, match="if, and only if"):
        Scaler("min_max", NAMES, arrays["offset"], arrays["spread"], arrays["log_scale"])


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_music_stays_on_the_scale(kind: ScalerKind, deam_root: Path) -> None:
    """The bound leaves min_max as published on real music, and clips next to nothing of signed_log_standard."""
    with np.load(deam_root / "features.npz") as archive:
        features, names = archive["features"], [str(name) for name in archive["names"]]
    scaler = Scaler.fit(kind, features[::2].reshape(-1, len(names)), names)
    magnitudes = np.abs(scaler.transform(features[1::2]))
    if kind == "min_max":
        assert 1.0 < magnitudes.max() < BOUND
    else:
        assert np.mean(magnitudes == BOUND) < 1e-3
        assert 0.5 < np.sqrt(np.mean(magnitudes**2)) < 1.5
