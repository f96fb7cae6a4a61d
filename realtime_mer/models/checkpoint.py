"""A trained model in one file that describes itself, and that executes nothing when it is loaded.

The format is safetensors: the tensors `weights.<name>` are the model's, `scaler.<field>` the scaler's, and one metadata
entry holds everything else as JSON: which model, which features in which order, how they are extracted, how the model
was trained, with which library versions, and, once `python -m train calibrate` has found it, how far it is off.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Struct, UnsetType
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from realtime_mer import __version__
from realtime_mer.atomic import write_atomically
from realtime_mer.errors import CheckpointError
from realtime_mer.features.engine import ENGINE_RATE_HZ
from realtime_mer.features.extraction import ExtractionSettings, frame_names
from realtime_mer.features.gain import GainStage
from realtime_mer.models.architecture import Architecture, StatelessArchitecture
from realtime_mer.models.architectures import ARCHITECTURES
from realtime_mer.models.calibration import Calibration
from realtime_mer.models.ranks import Ranks
from realtime_mer.models.scaling import Scaler

FORMAT_VERSION = 1
# A live model has a few megabytes. A larger file is not a checkpoint and is not read.
MAX_FILE_BYTES = 64 * 2**20

_METADATA_ENTRY = "realtime_mer"
_WEIGHTS, _SCALER = "weights.", "scaler."
# The types of tensors, as safetensors and as numpy call them.
_DTYPES = {"F32": "float32", "F64": "float64", "I64": "int64"}
_DTYPE_NAMES = ", ".join(_DTYPES.values())
# How many names a message lists.
_NAMES_SHOWN = 3
# How many characters of a library's message, or of a name in a file, are shown.
_MOST_REASON = 300


class _Metadata(Struct, forbid_unknown_fields=True):
    format_version: int
    model: str
    model_arguments: dict[str, Any]
    features: list[str]
    scaler: str
    extraction: dict[str, Any]
    training: dict[str, Any]
    libraries: dict[str, str]
    calibration: dict[str, Any] | UnsetType = UNSET
    ranks: dict[str, Any] | UnsetType = UNSET


class _Version(Struct):
    format_version: int


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that turns audio into predictions.

    model_name: a key of ARCHITECTURES; model_arguments: its constructor's.
    weights: as its `shapes` lists them, float32.
    scaler: has the names of the model's features, in order.
    extraction: how the frames with those features are extracted.
    training: facts about the training (data, protocol, seeds, scores), as JSON values.
    libraries: the versions of the libraries that decided the model's numbers, on the machine that trained it.
    calibration: how large its errors are; None if it was not calibrated.
    ranks: where predictions lie among those for songs; None without such a table.
    """

    model_name: str
    model_arguments: dict[str, Any]
    weights: dict[str, npt.NDArray[Any]]
    scaler: Scaler
    extraction: ExtractionSettings
    training: dict[str, Any]
    libraries: dict[str, str]
    calibration: Calibration | None = None
    ranks: Ranks | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features that the model takes, in order."""
        return self.scaler.names

    @property
    def has_any_rate(self) -> bool:
        """Whether it can predict at another rate than twice a second: its frames can come at any, and it is a model
        that carries nothing from one frame to the next."""
        return self.extraction.has_any_rate and issubclass(
            ARCHITECTURES.get(self.model_name, Architecture), StatelessArchitecture
        )

    def architecture(self) -> Architecture:
        """The model, which is stepped with `weights`.

        Raises CheckpointError if there is no such model, or the arguments, weights and features do not fit.
        """
        if self.model_name not in ARCHITECTURES:
            raise CheckpointError(
                f"its model is {self.model_name!r}; realtime-mer {__version__} has {', '.join(ARCHITECTURES)}."
            )
        try:
            architecture = ARCHITECTURES[self.model_name](**self.model_arguments)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise CheckpointError(f"its model {self.model_name} cannot be built: {_reason(error)}.") from error
        if architecture.n_features != len(self.feature_names):
            raise CheckpointError(
                f"its model takes {architecture.n_features} features, but it names {len(self.feature_names)}."
            )
        # Not all of them: the arguments may ask for any number of layers.
        shapes = islice(architecture.shapes(), len(self.weights) + 1)
        expected = {name: (shape, np.dtype(np.float32)) for name, shape in shapes}
        found = {name: (array.shape, array.dtype) for name, array in self.weights.items()}
        misfits = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if misfits:
            raise CheckpointError(f"its weights do not fit its model {self.model_name}: {_listed(misfits)}.")
        broken = sorted(name for name, array in self.weights.items() if not np.isfinite(array).all())
        if broken:
            raise CheckpointError(f"its weights are not all finite numbers: {_listed(broken)}.")
        return architecture


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file, whole or not at all.

    Raises CheckpointError if the checkpoint could not be loaded again, or the file cannot be written.
    """
    try:
        content = _serialized(checkpoint)
        write_atomically(path, content)
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be saved: {error}") from error
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be saved: {error.strerror or error}.") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the file, checked completely.

    Raises CheckpointError, naming the file, if it cannot be used; FeatureEngineError if openSMILE cannot be loaded.
    """
    try:
        checkpoint = _deserialized(*_read(path))
        _check(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be used: {error}") from error
    return checkpoint


def _check(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError unless this version can extract the features and run the model."""
    level = checkpoint.extraction.level
    try:
        if level is not None:
            GainStage(level, ENGINE_RATE_HZ)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise CheckpointError(f"its gain stage's settings are not usable: {_reason(error)}.") from error
    names = checkpoint.feature_names
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise CheckpointError(f"it names some features more than once: {_listed(repeated)}.")
    extracted = set(frame_names(checkpoint.extraction))
    unknown = [name for name in names if name not in extracted]
    if unknown:
        raise CheckpointError(
            f"realtime-mer {__version__} with its extraction settings does not extract the features "
            f"{_listed(unknown)}. Use the version that trained it, or train it again."
        )
    checkpoint.architecture()


def _serialized(checkpoint: Checkpoint) -> bytes:
    _check(checkpoint)
    metadata = {
        "format_version": FORMAT_VERSION,
        "model": checkpoint.model_name,
        "model_arguments": checkpoint.model_arguments,
        "features": list(checkpoint.feature_names),
        "scaler": checkpoint.scaler.kind,
        "extraction": checkpoint.extraction.to_dict(),
        "training": checkpoint.training,
        "libraries": checkpoint.libraries,
    }
    if checkpoint.calibration is not None:
        metadata["calibration"] = checkpoint.calibration.to_dict()
    if checkpoint.ranks is not None:
        metadata["ranks"] = checkpoint.ranks.to_dict()
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"its metadata cannot be written as JSON: {error}.") from error
    strange = sorted(name for name, array in checkpoint.weights.items() if array.dtype.name not in _DTYPES.values())
    if strange:
        raise CheckpointError(f"its weights must be {_DTYPE_NAMES}; others are {_listed(strange)}.")
    tensors = {_WEIGHTS + name: np.asarray(array, order="C") for name, array in checkpoint.weights.items()}
    tensors |= {_SCALER + name: np.asarray(array, order="C") for name, array in checkpoint.scaler.arrays().items()}
    content = to_safetensors(tensors, {_METADATA_ENTRY: text})
    if len(content) > MAX_FILE_BYTES:
        raise CheckpointError(
            f"it has {len(content)} bytes, more than the {MAX_FILE_BYTES} that a checkpoint may have."
        )
    return content


def _read(path: Path) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """The metadata entry and the tensors of a file in the safetensors format."""
    try:
        if path.is_dir():
            raise CheckpointError("it is a folder; a checkpoint is one file.")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(f"it has {size} bytes, more than the {MAX_FILE_BYTES} that a checkpoint may have.")
        if not path.is_file():
            raise CheckpointError("it is no regular file.")
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_METADATA_ENTRY)
            if text is None:
                raise CheckpointError("it is a safetensors file, but not one that realtime-mer wrote.")
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            strange = sorted(name for name, dtype in dtypes.items() if dtype not in _DTYPES)
            if strange:
                raise CheckpointError(f"its tensors must be {_DTYPE_NAMES}; others are {_listed(strange)}.")
            return text, {name: file.get_tensor(name) for name in dtypes}
    except FileNotFoundError:
        raise CheckpointError("there is no such file.") from None
    except SafetensorError as error:
        raise CheckpointError(f"it is no safetensors file, or is not whole ({error}).") from error
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"it cannot be read: {_reason(error)}.") from error


def _deserialized(text: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Checkpoint:
    metadata = _parse_metadata(text)
    weights = {name.removeprefix(_WEIGHTS): array for name, array in tensors.items() if name.startswith(_WEIGHTS)}
    scaler_arrays = {name.removeprefix(_SCALER): array for name, array in tensors.items() if name.startswith(_SCALER)}
    others = sorted(name for name in tensors if not name.startswith((_WEIGHTS, _SCALER)))
    if others:
        raise CheckpointError(f"it has unknown tensors: {_listed(others)}.")
    try:
        scaler = Scaler.from_arrays(metadata.scaler, metadata.features, scaler_arrays)
    except ValueError as error:
        raise CheckpointError(f"its scaler is not usable: {_reason(error)}.") from error
    try:
        extraction = ExtractionSettings.from_dict(metadata.extraction)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"its extraction settings are not usable: {_reason(error)}.") from error
    calibration = None
    if metadata.calibration is not UNSET:
        try:
            calibration = Calibration.from_dict(metadata.calibration)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"its calibration is not usable: {_reason(error)}.") from error
    ranks = None
    if metadata.ranks is not UNSET:
        try:
            ranks = Ranks.from_dict(metadata.ranks)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"its ranks are not usable: {_reason(error)}.") from error
    return Checkpoint(
        metadata.model,
        metadata.model_arguments,
        weights,
        scaler,
        extraction,
        metadata.training,
        metadata.libraries,
        calibration,
        ranks,
    )


def _parse_metadata(text: str) -> _Metadata:
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"it has the format version {version}, but realtime-mer {__version__} reads {FORMAT_VERSION}. "
                "Use the version of realtime-mer that wrote it."
            )
        return msgspec.json.decode(text, type=_Metadata)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise CheckpointError(f"its metadata is not usable: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """The message on one line, shortened, without its full stop."""
    return " ".join(str(error).split())[:_MOST_REASON].rstrip(".")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:_MOST_REASON]) for name in names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
