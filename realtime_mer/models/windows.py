"""The responsive model: what a window of music since its last change expresses, from its descriptors alone.

It keeps no state: everything that is remembered is in the window, so a change of the music takes effect at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from realtime_mer.models.architecture import (
    N_OUTPUTS,
    NoState,
    Shapes,
    StatelessArchitecture,
    Weights,
    dense,
    dense_shapes,
    require_dropouts,
    require_positive,
)
from realtime_mer.types import FloatArray

# A member's dense layers, as torch numbers them among its activations and dropouts.
MEMBER_LAYERS = (1, 4, 7)


@dataclass(frozen=True)
class WindowArchitecture(StatelessArchitecture):
    """The mean of three learners, the kernel machine and the network with (1 - linear_share) / 2 each:

    - kernel ridge regression with Gaussian kernels exp(-kernel_width · |x - l|² / n_features) on n_landmarks training
      windows l (Nyström; Williams and Seeger 2001), weights and landmarks fitted in closed form;
    - n_members multilayer perceptrons with two hidden layers, trained by gradient descent, averaged;
    - linear ridge regression.

    input_dropout, hidden_dropout: used in training only.
    """

    n_landmarks: int = 1000
    kernel_width: float = 0.5
    n_members: int = 4
    n_hidden: int = 96
    n_narrow: int = 32
    input_dropout: float = 0.3
    hidden_dropout: float = 0.4
    linear_share: float = 0.1

    def __post_init__(self) -> None:
        require_positive(
            n_features=self.n_features,
            n_landmarks=self.n_landmarks,
            n_members=self.n_members,
            n_hidden=self.n_hidden,
            n_narrow=self.n_narrow,
        )
        require_dropouts(
            input_dropout=self.input_dropout, hidden_dropout=self.hidden_dropout, linear_share=self.linear_share
        )
        if not (math.isfinite(self.kernel_width) and self.kernel_width > 0.0):
            raise ValueError(f"kernel_width must be a positive number, not {self.kernel_width}.")

    def shapes(self) -> Shapes:
        for member in range(self.n_members):
            widths = (self.n_features, self.n_hidden, self.n_narrow, N_OUTPUTS)
            for layer, n_in, n_out in zip(MEMBER_LAYERS, widths, widths[1:], strict=False):
                yield from dense_shapes(f"members.{member}.{layer}", n_in, n_out)
        yield "landmarks", (self.n_landmarks, self.n_features)
        yield "kernel_weight", (self.n_landmarks, N_OUTPUTS)
        yield "kernel_bias", (N_OUTPUTS,)
        yield "linear_weight", (self.n_features, N_OUTPUTS)
        yield "linear_bias", (N_OUTPUTS,)

    def step(self, weights: Weights, frame: FloatArray, state: NoState) -> tuple[FloatArray, NoState]:
        network = np.mean([_member(weights, f"members.{member}", frame) for member in range(self.n_members)], axis=0)
        differences = weights["landmarks"] - frame
        # From here in double precision: large weights of either sign nearly cancel in the sum.
        squared = np.einsum("lf,lf->l", differences, differences).astype(np.float64)
        kernels = np.exp(-self.kernel_width / self.n_features * squared)
        kernel = kernels @ weights["kernel_weight"] + weights["kernel_bias"]
        linear = frame @ weights["linear_weight"] + weights["linear_bias"]
        mixed = (1.0 - self.linear_share) * 0.5 * (network + kernel) + self.linear_share * linear
        return np.clip(mixed, -1.0, 1.0).astype(np.float32), state


def _member(weights: Weights, name: str, frame: FloatArray) -> FloatArray:
    first, second, last = MEMBER_LAYERS
    rows = np.maximum(dense(weights, f"{name}.{first}", frame), 0.0)
    rows = np.maximum(dense(weights, f"{name}.{second}", rows), 0.0)
    return dense(weights, f"{name}.{last}", rows)
