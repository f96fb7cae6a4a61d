"""The live model in torch, to train: whole sequences at once, with dropout and with labels fed back."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from realtime_mer.models.architecture import N_OUTPUTS, Architecture
from realtime_mer.models.live import LiveArchitecture


class LiveState(NamedTuple):
    """What is carried from one frame to the next, for `members` members of the ensemble.

    encoder, decoder: (members, batch, n_hidden). memory: (members, batch, up to 7, n_embedding + n_hidden), what the
    decoder attends to besides the newest frame. keys: (members, batch, up to 7, n_attention), U m for every m of the
    memory. prediction: (members, batch, 2).
    """

    encoder: Tensor
    memory: Tensor
    keys: Tensor
    decoder: Tensor
    prediction: Tensor


class MemberLinear(nn.Module):
    """A dense layer per member: (members, rows, n_in) -> (members, rows, n_out)."""

    def __init__(self, n_members: int, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_members, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_out).uniform_(-bound, bound)) if bias else None

    def forward(self, rows: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(rows, self.weight)
        return torch.baddbmm(self.bias, rows, self.weight)


class MemberGRUCell(nn.Module):
    """A gated recurrent unit per member (Cho et al. 2014, in the form of torch.nn.GRUCell):

    r = σ(W_r x + U_r h), z = σ(W_z x + U_z h), n = tanh(W_n x + r ∘ (U_n h)), h' = (1 - z) ∘ n + z ∘ h
    """

    def __init__(self, n_members: int, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.from_input = MemberLinear(n_members, n_in, 3 * n_hidden)
        self.from_hidden = MemberLinear(n_members, n_hidden, 3 * n_hidden)

    def forward(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """rows: (members, batch, n_in); hidden: (members, batch, n_hidden), also the result's shape."""
        input_reset, input_update, input_new = self.from_input(rows).chunk(3, dim=2)
        hidden_reset, hidden_update, hidden_new = self.from_hidden(hidden).chunk(3, dim=2)
        reset = torch.sigmoid(input_reset + hidden_reset)
        update = torch.sigmoid(input_update + hidden_update)
        new = torch.tanh(input_new + reset * hidden_new)
        return new + update * (hidden - new)


class TrainingPass(NamedTuple):
    """What the members did with a batch: predictions, (members, batch, frames, 2), and the decoder's states,
    (members, batch, frames, n_hidden)."""

    predictions: Tensor
    states: Tensor


class Noise(NamedTuple):
    """The dropout masks of one training pass, one draw per sequence and member for all its frames (Gal and
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016): masks drawn
    anew at every frame would be averaged away by the memory.

    inputs: (members, batch, 1, n_inputs). embedding: (members, batch, 1, n_embedding). encoder, decoder: (members,
    batch, n_hidden).
    """

    inputs: Tensor
    embedding: Tensor
    encoder: Tensor
    decoder: Tensor


def _mask(like: Tensor, shape: tuple[int, ...], dropout: float) -> Tensor:
    return like.new_empty(shape).bernoulli_(1.0 - dropout) / (1.0 - dropout)


class LiveModel(nn.Module):
    """A LiveArchitecture to train; arguments: its fields."""

    of: ClassVar[type[Architecture]] = LiveArchitecture
    receptive_field_s: ClassVar[float] = math.inf

    def __init__(self, n_features: int, **arguments: Any) -> None:
        super().__init__()
        self.architecture = LiveArchitecture(n_features, **arguments)
        self.linear_share = self.architecture.linear_share
        n_members, n_hidden = self.architecture.n_members, self.architecture.n_hidden
        n_embedding, n_attention = self.architecture.n_embedding, self.architecture.n_attention
        n_inputs, n_memory = self.architecture.n_inputs, self.architecture.n_memory
        self.embedding = MemberLinear(n_members, n_inputs, n_embedding)
        self.encoder = MemberGRUCell(n_members, n_embedding, n_hidden)
        self.query = MemberLinear(n_members, n_hidden, n_attention, bias=False)
        self.key = MemberLinear(n_members, n_memory, n_attention)
        self.score = MemberLinear(n_members, n_attention, 1, bias=False)
        self.decoder = MemberGRUCell(n_members, n_memory + N_OUTPUTS, n_hidden)
        self.output = MemberLinear(n_members, n_memory + n_hidden, N_OUTPUTS)
        # Fitted in closed form, not by gradient descent: buffers.
        self.linear_weight: Tensor
        self.linear_bias: Tensor
        self.register_buffer("linear_weight", torch.zeros(n_inputs, N_OUTPUTS))
        self.register_buffer("linear_bias", torch.zeros(N_OUTPUTS))

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: (batch, frames, n_features). Returns (batch, frames, 2), what the architecture's steps give."""
        inputs = self.inputs(sequence)
        return self._mixed(self._run(inputs, None, 0.0).predictions, inputs)

    def fit_linear(self, inputs: Tensor, labels: Tensor, penalty: float) -> None:
        """Sets the linear readout to the ridge regression W = (X'X / n + penalty · I)^-1 X'Y / n of centred X and Y.

        inputs: (n, n_inputs), rows of what `inputs` gives; labels: (n, 2).
        """
        rows, targets = inputs.double(), labels.double()
        mean, target_mean = rows.mean(dim=0), targets.mean(dim=0)
        centred = rows - mean
        gram = centred.T @ centred / len(rows) + penalty * torch.eye(self.architecture.n_inputs, dtype=torch.float64)
        weight = torch.linalg.solve(gram, centred.T @ (targets - target_mean) / len(rows))
        self.linear_weight.copy_(weight)
        self.linear_bias.copy_(target_mean - mean @ weight)

    def training_pass(
        self,
        sequence: Tensor,
        labels: Tensor | None = None,
        teacher_forcing: float = 0.0,
        run_frames: int | None = None,
        wanted: Tensor | None = None,
    ) -> TrainingPass:
        """Every member's own predictions; in training mode with dropout.

        labels: (batch, frames, 2), fed back instead of the member's own prediction with probability teacher_forcing,
        drawn for every frame (scheduled sampling; Bengio et al. 2015).
        run_frames: the sequence is cut into runs of this many frames, each from an initial state and with its own
        dropout (a curriculum's short sequences); only the running statistics span them. None: as one.
        wanted: bool, (batch, frames), the frames with labels: only these are fed back, and a run without any is not
        computed, its results being zeros. None: all.
        """
        inputs = self.inputs(sequence)
        n_frames = sequence.shape[1]
        run_frames = run_frames or n_frames
        passes = []
        for start in range(0, n_frames, run_frames):
            run = slice(start, start + run_frames)
            if wanted is not None and not wanted[:, run].any():
                passes.append(self._nothing(inputs[:, run]))
                continue
            forced = None if labels is None else labels[:, run]
            known = None if wanted is None else wanted[:, run]
            passes.append(self._run(inputs[:, run], forced, teacher_forcing, known))
        predictions, states = zip(*passes, strict=True)
        return TrainingPass(torch.cat(predictions, dim=2), torch.cat(states, dim=2))

    def inputs(self, sequence: Tensor) -> Tensor:
        """What the embedding and the linear readout see: the features, then the running mean and deviation of the first
        n_running of them. (batch, frames, n_features) -> (batch, frames, n_inputs)."""
        n_running = self.architecture.n_running
        mean = square = sequence.new_zeros(len(sequence), n_running)
        inputs = []
        for t, frame in enumerate(sequence.unbind(dim=1)):
            n_frames = min(t + 1, self.architecture.running_memory_frames)
            running = frame[:, :n_running]
            mean = mean + (running - mean) / n_frames
            square = square + (running.square() - square) / n_frames
            deviation = torch.sqrt(torch.clamp(square - mean.square(), min=0.0) + 1e-6)
            inputs.append(torch.cat([frame, mean, deviation], dim=1))
        return torch.stack(inputs, dim=1)

    def _run(
        self, inputs: Tensor, labels: Tensor | None, teacher_forcing: float, known: Tensor | None = None
    ) -> TrainingPass:
        state = self._initial_state(len(inputs))
        noise = self._draw_noise(inputs) if self.training else None
        embedded = self._embed(inputs, noise)
        predictions, states = [], []
        for t in range(inputs.shape[1]):
            state = self._advance(embedded[:, :, t], state, noise)
            predictions.append(state.prediction)
            states.append(state.decoder)
            if labels is not None and teacher_forcing > 0.0:
                forced = torch.rand(len(inputs), 1) < teacher_forcing
                if known is not None:
                    forced = forced & known[:, t, None]
                state = state._replace(prediction=torch.where(forced, labels[:, t], state.prediction))
        return TrainingPass(torch.stack(predictions, dim=2), torch.stack(states, dim=2))

    def _nothing(self, inputs: Tensor) -> TrainingPass:
        shape = (self.architecture.n_members, *inputs.shape[:2])
        return TrainingPass(inputs.new_zeros(*shape, N_OUTPUTS), inputs.new_zeros(*shape, self.architecture.n_hidden))

    def _mixed(self, predictions: Tensor, inputs: Tensor) -> Tensor:
        """The members' mean with the linear readout: (members, …, 2) and (…, n_inputs) -> (…, 2)."""
        linear = torch.clamp(inputs @ self.linear_weight + self.linear_bias, -1.0, 1.0)
        return (1.0 - self.linear_share) * predictions.mean(dim=0) + self.linear_share * linear

    def _draw_noise(self, sequence: Tensor) -> Noise:
        members, batch = self.architecture.n_members, len(sequence)
        return Noise(
            inputs=_mask(sequence, (members, batch, 1, self.architecture.n_inputs), self.architecture.input_dropout),
            embedding=_mask(
                sequence, (members, batch, 1, self.architecture.n_embedding), self.architecture.embedding_dropout
            ),
            encoder=_mask(sequence, (members, batch, self.architecture.n_hidden), self.architecture.state_dropout),
            decoder=_mask(sequence, (members, batch, self.architecture.n_hidden), self.architecture.state_dropout),
        )

    def _initial_state(self, batch_size: int) -> LiveState:
        like, sizes = self.output.weight, self.architecture
        zeros = like.new_zeros(sizes.n_members, batch_size, sizes.n_hidden)
        return LiveState(
            encoder=zeros,
            memory=like.new_zeros(sizes.n_members, batch_size, 0, sizes.n_memory),
            keys=like.new_zeros(sizes.n_members, batch_size, 0, sizes.n_attention),
            decoder=zeros,
            prediction=like.new_zeros(sizes.n_members, batch_size, N_OUTPUTS),
        )

    def _embed(self, inputs: Tensor, noise: Noise | None) -> Tensor:
        """(batch, frames, n_inputs) -> (members, batch, frames, n_embedding)."""
        batch, frames, _ = inputs.shape
        rows = inputs.expand(self.architecture.n_members, batch, frames, self.architecture.n_inputs)
        if noise is not None:
            rows = rows * noise.inputs
        embedded = torch.relu(
            self.embedding(rows.reshape(self.architecture.n_members, batch * frames, self.architecture.n_inputs))
        )
        embedded = embedded.reshape(self.architecture.n_members, batch, frames, self.architecture.n_embedding)
        return embedded if noise is None else embedded * noise.embedding

    def _advance(self, embedded: Tensor, state: LiveState, noise: Noise | None) -> LiveState:
        """One frame through encoder, memory, attention and decoder; embedded: (members, batch, n_embedding)."""
        encoder = self.encoder(embedded, state.encoder)
        heard = encoder if noise is None else encoder * noise.encoder
        newest = torch.cat([embedded, heard], dim=2)
        # Not full at the start: the memory then really is shorter, nothing is padded.
        memory = torch.cat([state.memory, newest.unsqueeze(2)], dim=2)
        keys = torch.cat([state.keys, self.key(newest).unsqueeze(2)], dim=2)
        weights = self._attend(state.decoder, keys)
        context = (weights * memory).sum(dim=2)
        decoder = self.decoder(torch.cat([context, state.prediction], dim=2), state.decoder)
        said = decoder if noise is None else decoder * noise.decoder
        prediction = torch.tanh(self.output(torch.cat([context, said], dim=2)))
        oldest_kept = max(0, memory.shape[2] - (self.architecture.memory_frames - 1))
        return LiveState(
            encoder=encoder,
            memory=memory[:, :, oldest_kept:],
            keys=keys[:, :, oldest_kept:],
            decoder=decoder,
            prediction=prediction,
        )

    def _attend(self, decoder: Tensor, keys: Tensor) -> Tensor:
        """The weights of the memory's frames: (members, batch, frames, 1)."""
        members, batch, frames, _ = keys.shape
        match = torch.tanh(self.query(decoder).unsqueeze(2) + keys)
        scores = self.score(match.reshape(members, batch * frames, -1)).reshape(members, batch, frames, 1)
        return torch.softmax(scores, dim=2)
