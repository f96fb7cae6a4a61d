"""Checkpoints: what is saved comes back, and whatever is no whole checkpoint is refused with a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import CALIBRATION, Metadata, Tensors, rewrite, small_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from torch import nn

from realtime_mer.config import MODEL_NAMES, ModelSettings
from realtime_mer.errors import CheckpointError
from realtime_mer.models.checkpoint import FORMAT_VERSION, MAX_FILE_BYTES, load_checkpoint, save_checkpoint
from realtime_mer.models.packaged import chosen_checkpoint_path
from train.checkpoints import build_model, checkpoint_of
from train.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "realtime_mer"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, small_checkpoint("mlp"))
    return path


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    path = tmp_path / "calibrated.safetensors"
    save_checkpoint(path, small_checkpoint("mlp", calibrated=True))
    return path


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize(("level", "descriptors"), [(True, True), (False, False)])
def test_a_saved_checkpoint_is_loaded_unchanged(
    model_name: str, level: bool, descriptors: bool, tmp_path: Path
) -> None:
    original = small_checkpoint(model_name, level=level, descriptors=descriptors)
    save_checkpoint(tmp_path / "model", original)
    loaded = load_checkpoint(tmp_path / "model")
    for name in ("model_name", "model_arguments", "extraction", "training", "libraries", "feature_names"):
        assert getattr(loaded, name) == getattr(original, name), name
    assert loaded.scaler.kind == original.scaler.kind
    for name, array in original.scaler.arrays().items():
        np.testing.assert_array_equal(loaded.scaler.arrays()[name], array)
    assert {"python", "torch", "numpy", "opensmile", "soxr"} <= loaded.libraries.keys()

    model = build_model(loaded)
    assert isinstance(model, nn.Module)
    assert not model.training
    sequence = torch.randn(2, 9, len(loaded.feature_names), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(sequence), build_model(original)(sequence))


def test_a_calibration_is_loaded_and_changes_nothing_else(saved: Path, calibrated: Path) -> None:
    assert load_checkpoint(saved).calibration is None
    assert load_checkpoint(calibrated).calibration == CALIBRATION
    rewrite(calibrated, lambda metadata, tensors: metadata.pop("calibration"))
    rewrite(saved, lambda metadata, tensors: None)
    assert calibrated.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("calibrated", [False, True])
def test_saving_again_gives_the_same_bytes(calibrated: bool, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    save_checkpoint(first, small_checkpoint("mlp", calibrated=calibrated))
    save_checkpoint(again, load_checkpoint(first))
    assert again.read_bytes() == first.read_bytes()


def test_only_known_models_can_be_saved() -> None:
    class Own(nn.Linear):
        pass

    checkpoint = small_checkpoint("mlp")
    with pytest.raises(CheckpointError, match="Own is not one of the models mlp, "):
        checkpoint_of(Own(1, 1), checkpoint.scaler, checkpoint.extraction, {})  # type: ignore[arg-type]


def test_the_weights_are_a_copy() -> None:
    checkpoint = small_checkpoint("mlp")
    model = build_model(checkpoint)
    copy = checkpoint_of(model, checkpoint.scaler, checkpoint.extraction, {})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for name, array in checkpoint.weights.items():
        np.testing.assert_array_equal(copy.weights[name], array)


# ---- files that are no checkpoint -------------------------------------------------------------------------------


class Mischief:
    """When unpickled, leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def pickled(trace: Path) -> bytes:
    return pickle.dumps(Mischief(trace))


def torch_saved(trace: Path) -> bytes:
    path = trace.with_name("saved.pt")
    torch.save({"weights": Mischief(trace)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("content", [pickled, torch_saved])
def test_nothing_is_executed(content: Callable[[Path], bytes], tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(trace))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no safetensors file, or is not whole"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "no safetensors file, or is not whole"),
        (struct.pack("<Q", 2) + b"{}", "not one that realtime-mer wrote"),
        (struct.pack("<Q", 2**63) + b"{}", "no safetensors file, or is not whole"),
        (save({"weights": np.zeros(3, np.float32)}), "not one that realtime-mer wrote"),
        (save({}, {"other": "{}"}), "not one that realtime-mer wrote"),
        *(
            (save({}, {ENTRY: text}), "its metadata is not usable")
            for text in ("no JSON", "[" * 100_000, "[1]", "{}", '{"format_version": 1}')
        ),
        (save({}, {ENTRY: '{"format_version": 1, "training": NaN}'}), "its metadata is not usable"),
        (save({}, {ENTRY: '{"format_version": 1, "training": 1e999}'}), "its metadata is not usable"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors cannot be used: there is no such file\."):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="it is a folder"):
        load_checkpoint(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CheckpointError, match="no regular file"):
            load_checkpoint(tmp_path / "pipe")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"it has {MAX_FILE_BYTES + 1} bytes, more than the {MAX_FILE_BYTES}"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(kept: float, saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="not whole"):
        load_checkpoint(saved)


# ---- files that are nearly a checkpoint -------------------------------------------------------------------------

FIRST_WEIGHT = "weights.layers.0.weight"


def at(*path: str | int, value: object) -> Callable[[Metadata, Tensors], object]:
    """Sets the value at this place of the metadata."""

    def change(metadata: Metadata, tensors: Tensors) -> None:
        place: Any = metadata
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def without(name: str) -> Callable[[Metadata, Tensors], object]:
    """Removes a tensor."""
    return lambda metadata, tensors: tensors.pop(name)


def with_tensor(name: str, change: Callable[[Any], Any]) -> Callable[[Metadata, Tensors], object]:
    return lambda metadata, tensors: tensors.update({name: change(tensors.get(name))})


def with_first_value(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        changed = array.copy()
        changed.flat[0] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("format_version", value=FORMAT_VERSION + 1), f"format version {FORMAT_VERSION + 1}, but .* reads 1"),
        (at("format_version", value="1"), "metadata is not usable: .*format_version"),
        (lambda metadata, tensors: metadata.pop("format_version"), "metadata is not usable: .*format_version"),
        (lambda metadata, tensors: metadata.pop("training"), "metadata is not usable: .*training"),
        (at("smoothing", value=3), "metadata is not usable: .*smoothing"),
        (at("model_arguments", value=[]), "metadata is not usable: .*model_arguments"),
        (at("libraries", value={"torch": 2}), "metadata is not usable: .*libraries"),
        (at("model", value="oracle"), "model is 'oracle'; realtime-mer .* has mlp, "),
        (at("model", value="seq2seq"), "cannot be built: .*n_layers"),
        (at("model_arguments", "n_features", value=3), "takes 3 features, but it names 143"),
        (at("model_arguments", "n_hidden", value=33), "weights do not fit its model mlp"),
        (at("model_arguments", "n_hidden", value=2**40), "(cannot be built|do not fit)"),
        (at("model_arguments", "n_hidden", value="32"), "cannot be built: .*n_hidden"),
        (at("model_arguments", "width", value=32), "cannot be built: .*width"),
        (at("model_arguments", value={}), "cannot be built: .*n_features"),
        (at("features", 0, value="beauty"), "does not extract the features 'beauty'"),
        (at("features", 0, value=7), "metadata is not usable: .*features"),
        (lambda metadata, tensors: metadata["features"].__setitem__(0, metadata["features"][1]), "more than once"),
        (lambda metadata, tensors: metadata["features"].pop(), "scaler is not usable: .*142 features"),
        (at("scaler", value="magic"), "scaler is not usable: There is no scaler 'magic'"),
        (at("scaler", value="min_max"), "scaler is not usable: .*log_scale"),
        (with_tensor("scaler.spread", with_first_value(-1.0)), "scaler is not usable: .*spread for feature"),
        (without("scaler.offset"), "scaler is not usable"),
        (at("extraction", value={}), "extraction settings are not usable"),
        (at("extraction", value={"level": 7, "descriptors": True}), "extraction settings are not usable"),
        (at("extraction", "descriptors", value="no"), "extraction settings are not usable"),
        (at("extraction", "descriptors", value=False), "does not extract the features"),
        (at("extraction", "level", "hop_s", value=1.0), "extraction settings are not usable: .*hop_s"),
        (at("extraction", "level", "memory_s", value="long"), "settings are not usable"),
        (at("extraction", "level", "target_db", value=1e300), "settings are not usable"),
        (without(FIRST_WEIGHT), "do not fit its model mlp: 'layers.0.weight'"),
        (with_tensor("weights.more", lambda _: np.zeros(2, np.float32)), "do not fit its model mlp: 'more'"),
        (with_tensor("bias", lambda _: np.zeros(2, np.float32)), "unknown tensors: 'bias'"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.T), "do not fit its model mlp: 'layers.0.weight'"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.astype(np.float64)), "do not fit its model mlp"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.astype(np.float16)), "its tensors must be float32, "),
        (with_tensor(FIRST_WEIGHT, with_first_value(np.nan)), "not all finite numbers: 'layers.0.weight'"),
        (at("calibration", value=None), "metadata is not usable: .*calibration"),
        (at("calibration", value=[]), "metadata is not usable: .*calibration"),
        (at("calibration", value={}), "calibration is not usable: .*valence"),
        (at("calibration", "valence", value=[0.03, 0.01, 3.0]), "calibration is not usable"),
        (at("calibration", "arousal", value={"settled": 0.1}), "calibration is not usable: .*early"),
        (at("calibration", "valence", "spread", value=1.0), "calibration is not usable: .*spread"),
        (at("calibration", "dominance", value=1.0), "calibration is not usable: .*dominance"),
        (at("calibration", "valence", "settled", value=float("nan")), "metadata is not usable"),
        (at("calibration", "valence", "settled", value=0), "settled must lie between"),
        (at("calibration", "arousal", "settled", value=10**400), "settled must lie between"),
        (at("calibration", "arousal", "early", value=-1e-9), "early must lie between"),
        (at("calibration", "valence", "decay_s", value=1e9), "decay_s must lie between"),
        (at("calibration", "valence", "decay_s", value="3"), "decay_s must be a number, not '3'"),
        (at("calibration", "valence", "early", value=True), "early must be a number, not True"),
        (at("calibration", "label_variance", value=2.1), "label_variance must lie between"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(
    change: Callable[[Metadata, Tensors], object], reason: str, calibrated: Path
) -> None:
    rewrite(calibrated, change)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(calibrated)
    assert str(calibrated) in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(saved: Path, data: st.DataObject) -> None:
    """Any bytes changed, anywhere but mostly in the header, and any end cut off or put on."""
    original = (saved.with_suffix(".original") if saved.with_suffix(".original").exists() else saved).read_bytes()
    saved.with_suffix(".original").write_bytes(original)
    content = bytearray(original)
    header_bytes = 8 + struct.unpack("<Q", original[:8])[0]
    places = st.one_of(st.integers(0, header_bytes - 1), st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        content[place] = value
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    saved.write_bytes(bytes(content[:end]) + data.draw(st.binary(max_size=4)))
    with contextlib.suppress(CheckpointError):
        loaded = load_checkpoint(saved)
        assert loaded.architecture().n_features == len(loaded.feature_names)


# ---- saving -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {"score": float("nan")}}, "cannot be written as JSON"),
        ({"training": {"path": Path()}}, "cannot be written as JSON"),
        ({"model_arguments": {"n_features": 3}}, "takes 3 features"),
        ({"weights": {}}, "weights do not fit"),
        ({"model_name": "oracle"}, "model is 'oracle'"),
    ],
)
def test_a_checkpoint_that_could_not_be_loaded_is_not_saved(changes: dict[str, Any], reason: str, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=reason) as caught:
        save_checkpoint(saved, replace(small_checkpoint("mlp"), **changes))
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.model cannot be saved: No such file or directory\."):
        save_checkpoint(tmp_path / "nowhere" / "model", small_checkpoint("mlp"))


# ---- the model in the package -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_checkpoints_in_the_package(name: str) -> None:
    path = chosen_checkpoint_path(ModelSettings(name))
    checkpoint = load_checkpoint(path)
    assert path.stat().st_size <= 5_000_000
    assert checkpoint.training
    assert json.loads(json.dumps(checkpoint.training)) == checkpoint.training
    assert checkpoint.calibration is not None
    # Worth more than the average song, and more once it has heard some; the scores forbid what would be boasting.
    assert 0.3 < checkpoint.calibration.after(1.0).confidence < checkpoint.calibration.after(10.0).confidence < 0.7
