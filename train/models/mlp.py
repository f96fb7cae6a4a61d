"""The published baseline: a multilayer perceptron that sees one frame and remembers nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from realtime_mer.features.engine import FRAME_S, HOP_S

# Valence and arousal, in this order.
N_OUTPUTS = 2
# The width of every published model's hidden layers.
HIDDEN_UNITS = 32


def require_positive(**arguments: int) -> None:
    """Raises ValueError, naming the argument, unless every one is an integer of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"The model's argument {name} must be a whole number of at least 1, not {value!r}.")


class MLPState(NamedTuple):
    """Nothing: a frame's prediction depends on that frame alone."""


class MLP(nn.Module):
    """Frame by frame: `n_layers` dense layers in all, the hidden ones `n_hidden` wide with ReLU, the last with tanh.

    Raises ValueError where an argument is not a whole number of at least 1.
    """

    rate_hz = 1.0 / HOP_S
    latency_s = 0.0
    receptive_field_s = FRAME_S

    def __init__(self, n_features: int, n_hidden: int = HIDDEN_UNITS, n_layers: int = 6) -> None:
        super().__init__()
        require_positive(n_features=n_features, n_hidden=n_hidden, n_layers=n_layers)
        self.n_features = n_features
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        layers: list[nn.Module] = []
        width = n_features
        for _ in range(n_layers - 1):
            layers += [nn.Linear(width, n_hidden), nn.ReLU()]
            width = n_hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, N_OUTPUTS), nn.Tanh())

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON: `MLP(**model.arguments())` is the same architecture."""
        return {"n_features": self.n_features, "n_hidden": self.n_hidden, "n_layers": self.n_layers}

    def initial_state(self, batch_size: int) -> MLPState:
        """The state before a stream's first frame: always empty."""
        return MLPState()

    def step(self, frame: Tensor, state: MLPState) -> tuple[Tensor, MLPState]:
        """frame: scaled features, shape (batch, n_features). Returns predictions (batch, 2) in [-1, 1], and state."""
        return self.forward(frame), state

    def forward_segment(self, segment: Tensor) -> Tensor:
        """The published protocol, which for this model is the same as `forward`."""
        return self.forward(segment)

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: scaled features, shape (batch, frames, n_features). Returns (batch, frames, 2) in [-1, 1]."""
        predictions: Tensor = self.layers(sequence)
        return predictions
