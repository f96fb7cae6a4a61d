"""The responsive model in torch, to train: all windows at once, and with dropout."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realtime_mer.models.architecture import N_OUTPUTS, Architecture
from realtime_mer.models.windows import WindowArchitecture


class WindowModel(nn.Module):
    """A WindowArchitecture to train; arguments: its fields. What is fitted in closed form are buffers."""

    of: ClassVar[type[Architecture]] = WindowArchitecture
    receptive_field_s: ClassVar[float] = math.inf

    def __init__(self, n_features: int, **arguments: Any) -> None:
        super().__init__()
        self.architecture = WindowArchitecture(n_features, **arguments)
        sizes = self.architecture
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(sizes.input_dropout),
                nn.Linear(n_features, sizes.n_hidden),
                nn.ReLU(),
                nn.Dropout(sizes.hidden_dropout),
                nn.Linear(sizes.n_hidden, sizes.n_narrow),
                nn.ReLU(),
                nn.Dropout(0.5 * sizes.hidden_dropout),
                nn.Linear(sizes.n_narrow, N_OUTPUTS),
            )
            for _ in range(sizes.n_members)
        )
        self.landmarks: Tensor
        self.kernel_weight: Tensor
        self.kernel_bias: Tensor
        self.linear_weight: Tensor
        self.linear_bias: Tensor
        self.register_buffer("landmarks", torch.zeros(sizes.n_landmarks, n_features))
        self.register_buffer("kernel_weight", torch.zeros(sizes.n_landmarks, N_OUTPUTS))
        self.register_buffer("kernel_bias", torch.zeros(N_OUTPUTS))
        self.register_buffer("linear_weight", torch.zeros(n_features, N_OUTPUTS))
        self.register_buffer("linear_bias", torch.zeros(N_OUTPUTS))

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: (batch, frames, n_features). Returns (batch, frames, 2) in [-1, 1]."""
        rows = sequence.flatten(0, 1)
        network = torch.stack([member(rows) for member in self.members]).mean(dim=0)
        kernel = self.kernels(rows) @ self.kernel_weight + self.kernel_bias
        linear = rows @ self.linear_weight + self.linear_bias
        share = self.architecture.linear_share
        predictions = (1.0 - share) * 0.5 * (network + kernel) + share * linear
        return torch.clamp(predictions, -1.0, 1.0).reshape(*sequence.shape[:2], N_OUTPUTS)

    def kernels(self, rows: Tensor) -> Tensor:
        """The kernel values of rows, (n, n_features), and the landmarks: (n, n_landmarks)."""
        squared = (
            rows.square().sum(dim=1, keepdim=True) + self.landmarks.square().sum(dim=1) - 2.0 * rows @ self.landmarks.T
        )
        return torch.exp(-self.architecture.kernel_width / self.architecture.n_features * squared.clamp(min=0.0))
