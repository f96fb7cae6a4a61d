"""The responsive model: what a window of music since its last change expresses, from its descriptors alone.

It keeps no state: everything that is remembered is in the window, so a change of the music takes effect at once.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from realtime_mer.features.engine import HOP_S
from realtime_mer.models.mlp import N_OUTPUTS, require_positive


class WindowState(NamedTuple):
    """Nothing: a frame's window holds all that is remembered."""


class WindowModel(nn.Module):
    """The mean of three learners, the kernel machine and the network with (1 - linear_share) / 2 each:

    - kernel ridge regression with Gaussian kernels exp(-kernel_width · |x - l|² / n_features) on n_landmarks training
      windows l (Nyström; Williams and Seeger 2001), weights and landmarks fitted in closed form: buffers;
    - n_members multilayer perceptrons with two hidden layers, trained by gradient descent, averaged;
    - linear ridge regression.

    Raises ValueError where an argument is out of range.
    """

    rate_hz: ClassVar[float] = 1.0 / HOP_S
    latency_s: ClassVar[float] = 0.0
    receptive_field_s: ClassVar[float] = math.inf

    def __init__(
        self,
        n_features: int,
        n_landmarks: int = 1000,
        kernel_width: float = 0.5,
        n_members: int = 4,
        n_hidden: int = 96,
        n_narrow: int = 32,
        input_dropout: float = 0.3,
        hidden_dropout: float = 0.4,
        linear_share: float = 0.1,
    ) -> None:
        super().__init__()
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        require_positive(
            n_features=n_features, n_landmarks=n_landmarks, n_members=n_members, n_hidden=n_hidden, n_narrow=n_narrow
        )
        for name, share in {
            "input_dropout": input_dropout,
            "hidden_dropout": hidden_dropout,
            "linear_share": linear_share,
        }.items():
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name} must lie from 0 to below 1, not at {share}.")
        if not 0.0 < kernel_width < math.inf:
            raise ValueError(f"kernel_width must be a positive number, not {kernel_width}.")
        self.n_features = n_features
        self.n_landmarks = n_landmarks
        self.kernel_width = kernel_width
        self.linear_share = linear_share
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(input_dropout),
                nn.Linear(n_features, n_hidden),
                nn.ReLU(),
                nn.Dropout(hidden_dropout),
                nn.Linear(n_hidden, n_narrow),
                nn.ReLU(),
                nn.Dropout(0.5 * hidden_dropout),
                nn.Linear(n_narrow, N_OUTPUTS),
            )
            for _ in range(n_members)
        )
        self.landmarks: Tensor
        self.kernel_weight: Tensor
        self.kernel_bias: Tensor
        self.linear_weight: Tensor
        self.linear_bias: Tensor
        self.register_buffer("landmarks", torch.zeros(n_landmarks, n_features))
        self.register_buffer("kernel_weight", torch.zeros(n_landmarks, N_OUTPUTS))
        self.register_buffer("kernel_bias", torch.zeros(N_OUTPUTS))
        self.register_buffer("linear_weight", torch.zeros(n_features, N_OUTPUTS))
        self.register_buffer("linear_bias", torch.zeros(N_OUTPUTS))

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._arguments)

    def initial_state(self, batch_size: int) -> WindowState:
        """The state before a stream's first frame: always empty."""
        return WindowState()

    def step(self, frame: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        """frame: scaled features, shape (batch, n_features). Returns predictions (batch, 2) in [-1, 1], and state."""
        network = torch.stack([member(frame) for member in self.members]).mean(dim=0)
        kernel = self.kernels(frame) @ self.kernel_weight + self.kernel_bias
        linear = frame @ self.linear_weight + self.linear_bias
        predictions = (1.0 - self.linear_share) * 0.5 * (network + kernel) + self.linear_share * linear
        return torch.clamp(predictions, -1.0, 1.0), state

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: (batch, frames, n_features). Returns (batch, frames, 2), what stepping from the start gives."""
        batch, frames, _ = sequence.shape
        predictions, _ = self.step(sequence.reshape(batch * frames, self.n_features), WindowState())
        return predictions.reshape(batch, frames, N_OUTPUTS)

    def kernels(self, rows: Tensor) -> Tensor:
        """The kernel values of rows, (n, n_features), and the landmarks: (n, n_landmarks)."""
        squared = (
            rows.square().sum(dim=1, keepdim=True) + self.landmarks.square().sum(dim=1) - 2.0 * rows @ self.landmarks.T
        )
        return torch.exp(-self.kernel_width / self.n_features * squared.clamp(min=0.0))
