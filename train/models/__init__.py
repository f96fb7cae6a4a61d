"""The models in torch, by name, and what each of them offers: what `realtime_mer.models` computes, to train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from realtime_mer.models.architecture import Architecture
from train.models.live import LiveModel
from train.models.mlp import MLP
from train.models.seq2seq import Seq2Seq
from train.models.seq2seq_attention import Seq2SeqAttention
from train.models.windows import WindowModel

__all__ = ["MLP", "MODELS", "LiveModel", "SegmentModel", "Seq2Seq", "Seq2SeqAttention", "StreamingModel", "WindowModel"]


class StreamingModel(Protocol):
    """A `torch.nn.Module` that predicts for whole sequences what its architecture predicts step by step in NumPy.

    of: the type of its architecture.
    receptive_field_s: how much sound before a prediction's time it depends on; infinite where a state is carried on.
    """

    of: ClassVar[type[Architecture]]

    @property
    def architecture(self) -> Architecture: ...

    @property
    def receptive_field_s(self) -> float: ...

    def __init__(self, n_features: int, **arguments: Any) -> None: ...

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: (batch, frames, n_features). Returns (batch, frames, 2), valence and arousal in [-1, 1]: what the
        architecture's steps from the start give."""
        ...

    # What training and the checkpoint need of torch.nn.Module.

    def __call__(self, sequence: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def train(self, mode: bool = True) -> Self: ...

    def eval(self) -> Self: ...


@runtime_checkable
class SegmentModel(StreamingModel, Protocol):
    """A model that can be trained in the published protocol: on segments, all of a segment's outputs at once."""

    def forward_segment(self, segment: Tensor) -> Tensor:
        """segment: (batch, frames, n_features). Returns (batch, frames, 2), not causal within the segment."""
        ...


MODELS: dict[str, type[StreamingModel]] = {
    "mlp": MLP,
    "seq2seq": Seq2Seq,
    "seq2seq_a": Seq2SeqAttention,
    "live": LiveModel,
    "windows": WindowModel,
}
