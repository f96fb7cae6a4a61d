"""Checkpoints: what is saved comes back, and whatever is no whole checkpoint is refused with a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
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
from safetensors import safe_open
from safetensors.numpy import save
from torch import nn

from realtime_mer.models.architectures import MODELS
from realtime_mer.models.checkpoint import (
    FORMAT_VERSION,
    MAX_FILE_BYTES,
    Checkpoint,
    CheckpointError,
    default_checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "realtime_mer"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, small_checkpoint("mlp"))
    return path


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize(("level", "descriptors"), [(True, True), (False, False)])
def test_what_is_saved_comes_back(model_name: str, level: bool, descriptors: bool, tmp_path: Path) -> None:
    original = small_checkpoint(model_name, level=level, descriptors=descriptors)
    save_checkpoint(tmp_path / "model", original)
    loaded = load_checkpoint(tmp_path / "model")
    for name in ("model_name", "model_arguments", "extraction", "training", "libraries", "feature_names"):
        assert getattr(loaded, name) == getattr(original, name), name
    assert loaded.scaler.kind == original.scaler.kind
    for name, array in original.scaler.arrays().items():
        np.testing.assert_array_equal(loaded.scaler.arrays()[name], array)
    assert {"python", "torch", "numpy", "opensmile", "soxr"} <= loaded.libraries.keys()

    model = loaded.build_model()
    assert isinstance(model, nn.Module)
    assert not model.training
    sequence = torch.randn(2, 9, len(loaded.feature_names), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(sequence), original.build_model()(sequence))


def test_a_calibration_comes_back_and_changes_nothing_else(saved: Path, tmp_path: Path) -> None:
    assert load_checkpoint(saved).calibration is None
    calibrated = tmp_path / "calibrated"
    save_checkpoint(calibrated, small_checkpoint("mlp", calibrated=True))
    assert load_checkpoint(calibrated).calibration == CALIBRATION
    found = [contents(path) for path in (saved, calibrated)]
    entry = found[1][0].pop("calibration")
    assert found[0] == found[1]
    assert entry == {
        "valence": {"settled": 0.03, "early": 0.01, "decay_s": 3.0},
        "arousal": {"settled": 0.02, "early": 0.04, "decay_s": 1.5},
        "label_variance": 0.15,
    }


def contents(path: Path) -> tuple[Metadata, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """A file's metadata, and type, shape and bytes of its tensors."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()[ENTRY])
    return metadata, {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in tensors.items()}


@pytest.mark.parametrize("calibrated", [False, True])
def test_saving_again_gives_the_same_bytes(calibrated: bool, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    save_checkpoint(first, small_checkpoint("mlp", calibrated=calibrated))
    save_checkpoint(again, load_checkpoint(first))
    assert again.read_bytes() == first.read_bytes()


def test_a_model_of_ones_own_has_no_name(tmp_path: Path) -> None:
    class Own(nn.Linear):
        pass

    checkpoint = small_checkpoint("mlp")
    with pytest.raises(CheckpointError, match="Own is not one of the models mlp, "):
        Checkpoint.of_model(Own(1, 1), checkpoint.scaler, checkpoint.extraction, {})  # type: ignore[arg-type]


def test_importing_it_does_not_load_torch() -> None:
    code = (
        "import sys, realtime_mer.models.checkpoint; "
        "print(*sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


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


def header_claiming(n_bytes: int) -> bytes:
    return struct.pack("<Q", n_bytes) + b"{}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no safetensors file, or is not whole"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "no safetensors file, or is not whole"),
        (b"[model]\nname = 'mlp'\n", "no safetensors file, or is not whole"),
        (header_claiming(2), "not one that realtime-mer wrote"),
        (header_claiming(2**63), "no safetensors file, or is not whole"),
        (save({"weights": np.zeros(3, np.float32)}), "not one that realtime-mer wrote"),
        (save({}, {"other": "{}"}), "not one that realtime-mer wrote"),
        *(
            (save({}, {ENTRY: text}), "its metadata is not usable")
            for text in (
                "no JSON",
                "[" * 100_000,
                '{"format_version": 1, "training": NaN}',
                '{"format_version": 1, "training": 1e999}',
                "[1]",
                "{}",
                '{"format_version": 1}',
            )
        ),
    ],
)
def test_a_file_of_another_kind(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors cannot be used: there is no such file\."):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="it is a folder"):
        load_checkpoint(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="no regular file"):
        load_checkpoint(tmp_path / "pipe")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"it has {MAX_FILE_BYTES + 1} bytes, more than the {MAX_FILE_BYTES}"):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file(kept: float, saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="not whole"):
        load_checkpoint(saved)


# ---- files that are nearly a checkpoint -------------------------------------------------------------------------

FIRST_WEIGHT = "weights.layers.0.weight"


def with_entry(name: str, value: object) -> Callable[[Metadata, Tensors], object]:
    return lambda metadata, tensors: metadata.update({name: value})


def with_level(name: str, value: object) -> Callable[[Metadata, Tensors], object]:
    return lambda metadata, tensors: metadata["extraction"]["level"].update({name: value})


def with_argument(name: str, value: object) -> Callable[[Metadata, Tensors], object]:
    return lambda metadata, tensors: metadata["model_arguments"].update({name: value})


def with_feature(value: object) -> Callable[[Metadata, Tensors], object]:
    return lambda metadata, tensors: metadata["features"].__setitem__(0, value)


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
        (with_entry("format_version", FORMAT_VERSION + 1), f"format version {FORMAT_VERSION + 1}, but .* reads 1"),
        (with_entry("format_version", "1"), r"metadata is not usable: .*format_version"),
        (lambda metadata, tensors: metadata.pop("format_version"), "metadata is not usable: .*format_version"),
        (lambda metadata, tensors: metadata.pop("training"), "metadata is not usable: .*training"),
        (with_entry("smoothing", 3), "metadata is not usable: .*smoothing"),
        (with_entry("model_arguments", []), "metadata is not usable: .*model_arguments"),
        (with_entry("training", None), "metadata is not usable: .*training"),
        (with_entry("libraries", {"torch": 2}), "metadata is not usable: .*libraries"),
        (with_entry("model", "oracle"), "model is 'oracle'; realtime-mer .* has mlp, "),
        (with_entry("model", "seq2seq"), "cannot be built: .*n_layers"),
        (with_argument("n_features", 3), "takes 3 features, but it names 143"),
        (with_argument("n_hidden", 33), "weights do not fit its model mlp"),
        (with_argument("n_hidden", 2**40), "(cannot be built|do not fit)"),
        (with_argument("n_hidden", -1), "cannot be built: .*n_hidden"),
        (with_argument("n_hidden", "32"), "cannot be built: .*n_hidden"),
        (with_argument("width", 32), "cannot be built: .*width"),
        (with_entry("model_arguments", {}), "cannot be built: .*n_features"),
        (with_feature("beauty"), "does not extract the features 'beauty'"),
        (with_feature(7), "metadata is not usable: .*features"),
        (lambda metadata, tensors: metadata["features"].__setitem__(0, metadata["features"][1]), "more than once"),
        (lambda metadata, tensors: metadata["features"].pop(), "scaler is not usable: .*142 features"),
        (with_entry("scaler", "magic"), "scaler is not usable: There is no scaler 'magic'"),
        (with_entry("scaler", "min_max"), "scaler is not usable: .*log_scale"),
        (with_tensor("scaler.spread", with_first_value(-1.0)), "scaler is not usable: .*spread for feature"),
        (with_tensor("scaler.offset", with_first_value(np.nan)), "scaler is not usable: .*offset for feature"),
        (lambda metadata, tensors: tensors.pop("scaler.offset"), "scaler is not usable"),
        (with_entry("extraction", {}), "extraction settings are not usable"),
        (with_entry("extraction", {"level": 7, "descriptors": True}), "extraction settings are not usable"),
        (lambda metadata, tensors: metadata["extraction"].update(window_s=2), "extraction settings are not usable"),
        (
            lambda metadata, tensors: metadata["extraction"].update(descriptors="no"),
            "extraction settings are not usable",
        ),
        (lambda metadata, tensors: metadata["extraction"].update(descriptors=False), "does not extract the features"),
        (with_level("hop_s", 1.0), "extraction settings are not usable: .*hop_s"),
        (with_level("memory_s", 0), "settings are not usable"),
        (with_level("memory_s", "long"), "settings are not usable"),
        (with_level("target_db", 1e300), "settings are not usable"),
        (lambda metadata, tensors: tensors.pop(FIRST_WEIGHT), "do not fit its model mlp: 'layers.0.weight'"),
        (with_tensor("weights.more", lambda _: np.zeros(2, np.float32)), "do not fit its model mlp: 'more'"),
        (with_tensor("bias", lambda _: np.zeros(2, np.float32)), "unknown tensors: 'bias'"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.T), "do not fit its model mlp: 'layers.0.weight'"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.astype(np.float64)), "do not fit its model mlp"),
        (with_tensor(FIRST_WEIGHT, lambda array: array.astype(np.float16)), "its tensors must be float32, "),
        (with_tensor(FIRST_WEIGHT, with_first_value(np.nan)), "not all finite numbers: 'layers.0.weight'"),
        (with_tensor(FIRST_WEIGHT, with_first_value(-np.inf)), "not all finite numbers: 'layers.0.weight'"),
    ],
)
def test_a_part_that_does_not_fit(change: Callable[[Metadata, Tensors], object], reason: str, saved: Path) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(saved)
    assert str(saved) in str(caught.value)


def with_calibration(*path: str, value: object) -> Callable[[Metadata, Tensors], object]:
    """CALIBRATION with another value at one place."""

    def change(metadata: Metadata, tensors: Tensors) -> None:
        place = metadata["calibration"] = CALIBRATION.to_dict()
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_entry("calibration", None), "metadata is not usable: .*calibration"),
        (with_entry("calibration", 0.2), "metadata is not usable: .*calibration"),
        (with_entry("calibration", []), "metadata is not usable: .*calibration"),
        (with_entry("calibration", {}), "calibration is not usable: .*valence"),
        (with_calibration("valence", value=None), "calibration is not usable"),
        (with_calibration("valence", value=[0.03, 0.01, 3.0]), "calibration is not usable"),
        (with_calibration("arousal", value={"settled": 0.1}), "calibration is not usable: .*early"),
        (with_calibration("valence", "spread", value=1.0), "calibration is not usable: .*spread"),
        (with_calibration("dominance", value=1.0), "calibration is not usable: .*dominance"),
        (with_calibration("valence", "settled", value=float("nan")), "metadata is not usable"),
        (with_calibration("valence", "early", value=float("inf")), "metadata is not usable"),
        (with_calibration("valence", "settled", value=0), "settled must lie between"),
        (with_calibration("valence", "settled", value=-0.03), "settled must lie between"),
        (with_calibration("arousal", "settled", value=4.001), "settled must lie between"),
        (with_calibration("arousal", "settled", value=10**400), "settled must lie between"),
        (with_calibration("arousal", "early", value=-1e-9), "early must lie between"),
        (with_calibration("arousal", "early", value=1e300), "early must lie between"),
        (with_calibration("arousal", "decay_s", value=0.0), "decay_s must lie between"),
        (with_calibration("arousal", "decay_s", value=-1.0), "decay_s must lie between"),
        (with_calibration("valence", "decay_s", value=1e9), "decay_s must lie between"),
        (with_calibration("valence", "decay_s", value="3"), "decay_s must be a number, not '3'"),
        (with_calibration("valence", "early", value=True), "early must be a number, not True"),
        (with_calibration("label_variance", value=0.0), "label_variance must lie between"),
        (with_calibration("label_variance", value=2.1), "label_variance must lie between"),
        (with_calibration("label_variance", value=[0.15]), "label_variance must be a number"),
    ],
)
def test_a_calibration_that_cannot_be(change: Callable[[Metadata, Tensors], object], reason: str, saved: Path) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(saved)
    assert str(saved) in str(caught.value)


def test_rewriting_a_calibration_alone_breaks_nothing(saved: Path) -> None:
    rewrite(saved, with_calibration("label_variance", value=2))
    calibration = load_checkpoint(saved).calibration
    assert calibration is not None
    assert calibration.label_variance == 2


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
        assert loaded.build_model().n_features == len(loaded.feature_names)


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
def test_what_could_not_be_loaded_is_not_saved(changes: dict[str, Any], reason: str, saved: Path) -> None:
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


def test_the_default_checkpoint() -> None:
    checkpoint = load_checkpoint(default_checkpoint_path())
    assert default_checkpoint_path().stat().st_size <= 5_000_000
    assert checkpoint.training
    assert json.loads(json.dumps(checkpoint.training)) == checkpoint.training
    assert checkpoint.calibration is not None
    # Worth more than the average song, and more once it has heard some; the scores forbid what would be boasting.
    assert 0.3 < checkpoint.calibration.after(1.0).confidence < checkpoint.calibration.after(10.0).confidence < 0.7


def test_the_weights_are_a_copy() -> None:
    checkpoint = small_checkpoint("mlp")
    model = checkpoint.build_model()
    copy = Checkpoint.of_model(model, checkpoint.scaler, checkpoint.extraction, {})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for name, array in checkpoint.weights.items():
        np.testing.assert_array_equal(copy.weights[name], array)
