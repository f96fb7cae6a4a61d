"""The published baseline in torch: a multilayer perceptron that sees one frame and remembers nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from realtime_mer.features.engine import FRAME_S
from realtime_mer.models.architecture import N_OUTPUTS, Architecture
from realtime_mer.models.mlp import MLPArchitecture


class MLP(nn.Module):
    """An MLPArchitecture to train; arguments: its fields."""

    of: ClassVar[type[Architecture]] = MLPArchitecture
    receptive_field_s = FRAME_S

    def __init__(self, n_features: int, **arguments: Any) -> None:
        super().__init__()
        self.architecture = MLPArchitecture(n_features, **arguments)
        layers: list[nn.Module] = []
        width = n_features
        for _ in range(self.architecture.n_layers - 1):
            layers += [nn.Linear(width, self.architecture.n_hidden), nn.ReLU()]
            width = self.architecture.n_hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, N_OUTPUTS), nn.Tanh())

    def forward_segment(self, segment: Tensor) -> Tensor:
        """The published protocol, which for this model is the same as `forward`."""
        return self.forward(segment)

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: scaled features, shape (batch, frames, n_features). Returns (batch, frames, 2) in [-1, 1]."""
        predictions: Tensor = self.layers(sequence)
        return predictions
