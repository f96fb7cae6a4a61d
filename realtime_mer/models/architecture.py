"""What the models have in common: arguments, the shapes of the weights, and a step per frame, in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from realtime_mer.types import FloatArray

# Valence and arousal, in this order.
N_OUTPUTS = 2
# The width of every published model's hidden layers.
HIDDEN_UNITS = 32

# A model's arrays by name, all float32.
Weights = Mapping[str, FloatArray]
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Architecture(ABC):
    """A model without its weights. The fields are the model's arguments; nothing is allocated for them.

    n_features: how many scaled features a frame has.

    Raises TypeError or ValueError where an argument is of another type or out of range.
    """

    n_features: int

    @abstractmethod
    def shapes(self) -> Shapes:
        """The name and the shape of each array of weights. There may be any number: it depends on the arguments."""

    @abstractmethod
    def initial_state(self) -> Any:
        """The state before a stream's first frame: a NamedTuple, each model's own."""

    @abstractmethod
    def step(self, weights: Weights, frame: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """The prediction for a stream's next frame, and the state after it.

        weights: as `shapes` lists them. frame: scaled features, float32, shape (n_features,). Returns valence and
        arousal in [-1, 1], float32, shape (2,). Neither the frame nor the state that came in is changed.
        """


class NoState(NamedTuple):
    """Nothing is carried from one frame to the next."""


@dataclass(frozen=True)
class StatelessArchitecture(Architecture):
    """A model whose prediction depends on one frame alone, so its frames can come at any rate."""

    def initial_state(self) -> NoState:
        return NoState()


def require_positive(**arguments: int) -> None:
    """Raises ValueError, naming the argument, unless every one is an integer of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"The model's argument {name} must be a whole number of at least 1, not {value!r}.")


def require_dropouts(**arguments: float) -> None:
    """Raises ValueError, naming the argument, unless every one is from 0 to below 1."""
    for name, value in arguments.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} must lie from 0 to below 1, not at {value}.")


def dense(weights: Weights, name: str, rows: FloatArray) -> FloatArray:
    """A layer of torch.nn.Linear: (…, n_in) -> (…, n_out)."""
    result: FloatArray = rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def dense_shapes(name: str, n_in: int, n_out: int) -> Shapes:
    """The shapes of such a layer."""
    yield f"{name}.weight", (n_out, n_in)
    yield f"{name}.bias", (n_out,)


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without its overflow."""
    result: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * x)
    return result


def softmax(scores: FloatArray, axis: int) -> FloatArray:
    """exp(scores), scaled to a sum of 1 along the axis."""
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=axis, keepdims=True)
    return result


def gru_step(from_input: FloatArray, from_hidden: FloatArray, hidden: FloatArray) -> FloatArray:
    """The next hidden state of a gated recurrent unit, in the form of torch.nn.GRUCell:

    r = σ(W_r x + U_r h), z = σ(W_z x + U_z h), n = tanh(W_n x + r ∘ (U_n h)), h' = (1 - z) ∘ n + z ∘ h

    from_input, from_hidden: (…, 3 · n_hidden), W x and U h with their biases, for r, z and n. hidden: (…, n_hidden).
    """
    n = hidden.shape[-1]
    gates = sigmoid(from_input[..., : 2 * n] + from_hidden[..., : 2 * n])
    reset, update = gates[..., :n], gates[..., n:]
    new = np.tanh(from_input[..., 2 * n :] + reset * from_hidden[..., 2 * n :])
    result: FloatArray = new + update * (hidden - new)
    return result
