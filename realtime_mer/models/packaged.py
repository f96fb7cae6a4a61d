"""Which file holds the model. A module of its own: it is needed before the first sound, and the features are not."""

from __future__ import annotations

from pathlib import Path

# The models in the package, by the names that can be given instead of a file.
_PACKAGED = ("default", "open")


def default_checkpoint_path() -> Path:
    """The model that runs unless another is given."""
    return chosen_checkpoint_path(None)


def chosen_checkpoint_path(given: str | Path | None) -> Path:
    """The given file, or the model in the package with this name; None: the default."""
    name = "default" if given is None else str(given)
    return Path(__file__).with_name(f"{name}.safetensors") if name in _PACKAGED else Path(name)
