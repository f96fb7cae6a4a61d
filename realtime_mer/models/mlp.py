"""The published baseline: a multilayer perceptron that sees one frame and remembers nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from realtime_mer.models.architecture import (
    HIDDEN_UNITS,
    N_OUTPUTS,
    NoState,
    Shapes,
    StatelessArchitecture,
    Weights,
    dense,
    dense_shapes,
    require_positive,
)
from realtime_mer.types import FloatArray


@dataclass(frozen=True)
class MLPArchitecture(StatelessArchitecture):
    """`n_layers` dense layers in all, the hidden ones `n_hidden` wide with ReLU, the last with tanh."""

    n_hidden: int = HIDDEN_UNITS
    n_layers: int = 6

    def __post_init__(self) -> None:
        require_positive(n_features=self.n_features, n_hidden=self.n_hidden, n_layers=self.n_layers)

    def shapes(self) -> Shapes:
        width = self.n_features
        for layer in range(self.n_layers - 1):
            yield from dense_shapes(_name(layer), width, self.n_hidden)
            width = self.n_hidden
        yield from dense_shapes(_name(self.n_layers - 1), width, N_OUTPUTS)

    def step(self, weights: Weights, frame: FloatArray, state: NoState) -> tuple[FloatArray, NoState]:
        rows = frame
        for layer in range(self.n_layers - 1):
            rows = np.maximum(dense(weights, _name(layer), rows), 0.0)
        return np.tanh(dense(weights, _name(self.n_layers - 1), rows)), state


def _name(layer: int) -> str:
    # Between the dense layers, torch numbers the activations.
    return f"layers.{2 * layer}"
