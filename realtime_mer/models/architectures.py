"""The models by name."""

from __future__ import annotations

from realtime_mer.models.architecture import Architecture
from realtime_mer.models.live import LiveArchitecture
from realtime_mer.models.mlp import MLPArchitecture
from realtime_mer.models.seq2seq import Seq2SeqArchitecture, Seq2SeqAttentionArchitecture
from realtime_mer.models.windows import WindowArchitecture

ARCHITECTURES: dict[str, type[Architecture]] = {
    "mlp": MLPArchitecture,
    "seq2seq": Seq2SeqArchitecture,
    "seq2seq_a": Seq2SeqAttentionArchitecture,
    "live": LiveArchitecture,
    "windows": WindowArchitecture,
}
