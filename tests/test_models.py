"""The published models: their equations, their use on a stream, and what the checkpoint and training need of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract import ModelStage, verify_model, weights_in_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from realtime_mer.config import ModelSettings
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.models.scaling import BOUND
from train.checkpoints import build_model
from train.models import MLP, MODELS, SegmentModel, Seq2Seq, Seq2SeqAttention, StreamingModel
from train.models.seq2seq import SlidingSegmentModel

N_FEATURES = 12
PUBLISHED = ["mlp", "seq2seq", "seq2seq_a"]
WITH_MEMORY = ["seq2seq", "seq2seq_a"]
Array = npt.NDArray[np.float64]


def make(name: str, seed: int = 0, **arguments: Any) -> Any:
    torch.manual_seed(seed)
    return MODELS[name](**{"n_features": N_FEATURES, **arguments})


def frames(batch_size: int, n_frames: int, n_features: int = N_FEATURES, seed: int = 1) -> Tensor:
    return torch.randn(batch_size, n_frames, n_features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n_features", [N_FEATURES, 260])
@pytest.mark.parametrize("name", PUBLISHED)
def test_streaming_contract(name: str, n_features: int) -> None:
    model: StreamingModel = make(name, n_features=n_features)
    verify_model(model, frames(3, 25, n_features), stateful=name != "mlp")


def test_the_published_sizes() -> None:
    layers = [layer for layer in make("mlp").layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [32, 32, 32, 32, 32, 2]
    for name in PUBLISHED:
        assert make(name).receptive_field_s == (1.0 if name == "mlp" else 4.5)
    for name in WITH_MEMORY:
        assert asdict(make(name).architecture) == {"n_features": N_FEATURES, "n_hidden": 32, "segment_frames": 8}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_segment_in_gives_as_many_predictions_in_range(name: str) -> None:
    model = make(name)
    assert isinstance(model, SegmentModel)
    with torch.no_grad():
        predictions = model.forward_segment(100.0 * frames(5, 8))
    assert predictions.shape == (5, 8, 2)
    assert predictions.abs().max() <= 1.0
    assert predictions.std() > 0.0


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_prediction_is_the_last_output_of_the_segment_that_ends_with_its_frame(name: str) -> None:
    """The first segments are shorter, not padded."""
    model, sequence = make(name), frames(2, 11)
    with torch.no_grad():
        expected = [model.forward_segment(sequence[:, max(0, k - 7) : k + 1])[:, -1] for k in range(11)]
        torch.testing.assert_close(model(sequence), torch.stack(expected, dim=1), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_state_holds_the_last_seven_frames(name: str) -> None:
    model, sequence = make(name), frames(1, 11)[0].numpy()
    state = model.architecture.initial_state()
    counts = []
    for frame in sequence:
        counts.append(len(state.frames))
        _, state = model.architecture.step(weights_in_numpy(model), frame, state)
    assert counts == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7]
    np.testing.assert_array_equal(state.frames, sequence[4:])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(PUBLISHED), n_frames=st.integers(1, 7), batch_size=st.integers(1, 3), length=st.integers(1, 4)
)
def test_forward_is_stepping_for_any_length(name: str, n_frames: int, batch_size: int, length: int) -> None:
    model = make(name, **({} if name == "mlp" else {"segment_frames": length}))
    sequence = frames(batch_size, n_frames)
    with torch.no_grad():
        whole = model(sequence)
        assert whole.shape == (batch_size, n_frames, 2)
        assert model(sequence[:, :0]).shape == (batch_size, 0, 2)
    for stream, expected in zip(sequence.numpy(), whole.numpy(), strict=True):
        stepped = ModelStage(model.architecture, weights_in_numpy(model)).step(stream)
        np.testing.assert_allclose(stepped, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("name", [*MODELS, "default", "open"])
def test_long_streams_in_numpy_are_what_torch_computes(name: str, scale: float) -> None:
    """Also for the models in the package; to a millionth, against torch in double precision."""
    if name in MODELS:
        model = make(name)
        for buffer in model.buffers():
            buffer.copy_(0.1 * torch.randn(buffer.shape))
    else:
        model = build_model(load_checkpoint(chosen_checkpoint_path(ModelSettings(name))))
    n_features = model.architecture.n_features
    stream = (scale * frames(1, 500, n_features)).clamp(-BOUND, BOUND)
    stepped = ModelStage(model.architecture, weights_in_numpy(model)).step(stream[0].numpy())
    with torch.no_grad():
        expected = model.eval().double()(stream.double())[0].numpy()
    assert expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(stepped, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_parameter_and_every_frame_gets_a_gradient(name: str) -> None:
    model, segment = make(name), frames(16, 8).requires_grad_()
    names, parameters = zip(*model.named_parameters(), strict=True)
    target = torch.rand(16, 8, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    loss = nn.functional.mse_loss(model.forward_segment(segment), target)
    of_segment, *of_parameters = torch.autograd.grad(loss, [segment, *parameters])
    for parameter_name, gradient in zip(names, of_parameters, strict=True):
        assert gradient.abs().max() > 0.0, parameter_name
    assert (of_segment.abs().amax(dim=(0, 2)) > 0.0).all()
    if name in WITH_MEMORY:
        (gradient,) = torch.autograd.grad(model.forward_segment(segment)[:, -1].sum(), segment)
        assert gradient[0, 0].abs().max() > 1e-6, "the last prediction depends on the first frame"


@pytest.mark.parametrize("name", PUBLISHED)
def test_arguments_and_weights_rebuild_the_model(name: str) -> None:
    model, other = make(name, n_hidden=7), make(name, seed=4, n_hidden=7)
    arguments = json.loads(json.dumps(asdict(model.architecture)))
    rebuilt = type(model)(**arguments)
    rebuilt.load_state_dict(model.state_dict())
    sequence = frames(2, 10)
    with torch.no_grad():
        assert torch.equal(rebuilt(sequence), model(sequence))
        assert not torch.equal(other(sequence), model(sequence)), "the seed decides the weights"
    assert asdict(rebuilt.architecture) == asdict(model.architecture)
    assert asdict(rebuilt.architecture)["n_hidden"] == 7


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name in WITH_MEMORY for argument in ("n_features", "n_hidden", "segment_frames")]
    + [("mlp", argument) for argument in ("n_features", "n_hidden", "n_layers")],
)
def test_an_impossible_argument_is_named(name: str, argument: str) -> None:
    values: list[Any] = [0, 2.0, True, "8"]
    for value in values:
        with pytest.raises(ValueError, match=f"{argument} must be a whole number of at least 1"):
            make(name, **{argument: value})


# The equations again, in plain NumPy and double precision. PyTorch keeps a cell's gates under one another in one
# matrix: input, forget, cell, output for the LSTM; reset, update, new for the GRU.


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def weights_of(module: nn.Module, suffix: str = "_l0") -> tuple[Array, Array, Array, Array]:
    parameters = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    ih, hh, bias_ih, bias_hh = (parameters[f"{n}{suffix}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return ih, hh, bias_ih, bias_hh


def lstm_step(weights: tuple[Array, Array, Array, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    ih, hh, bias_ih, bias_hh = weights
    i, f, g, o = np.split(ih @ x + bias_ih + hh @ h + bias_hh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(weights: tuple[Array, Array, Array, Array], x: Array, h: Array) -> Array:
    ih, hh, bias_ih, bias_hh = weights
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = (
        np.split(ih @ x + bias_ih, 3),
        np.split(hh @ h + bias_hh, 3),
    )
    reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
    return (1.0 - update) * np.tanh(new_x + reset * new_h) + update * h


def dense_tanh(layer: nn.Linear, x: Array) -> Array:
    return np.asarray(np.tanh(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()))


def run_in_double(model: SlidingSegmentModel, n_frames: int) -> tuple[Array, Array]:
    segment = frames(1, n_frames).double()
    with torch.no_grad():
        return segment[0].numpy(), model.double().forward_segment(segment)[0].numpy()


@pytest.mark.parametrize("n_frames", [8, 3])
def test_seq2seq_is_its_equations(n_frames: int) -> None:
    model: Seq2Seq = make("seq2seq")
    segment, predictions = run_in_double(model, n_frames)
    encoder, decoder = weights_of(model.encoder), weights_of(model.decoder)

    h, c = np.zeros(32), np.zeros(32)
    for frame in segment:
        h, c = lstm_step(encoder, frame, h, c)
    context = h
    for prediction in predictions:
        h, c = lstm_step(decoder, context, h, c)
        np.testing.assert_allclose(prediction, dense_tanh(model.output, h), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("n_frames", [8, 3])
def test_seq2seq_a_is_its_equations(n_frames: int) -> None:
    model: Seq2SeqAttention = make("seq2seq_a")
    segment, predictions = run_in_double(model, n_frames)
    encoder, decoder = weights_of(model.encoder), weights_of(model.decoder, suffix="")
    attention = model.attention
    w, u = attention.query_weight.weight.detach().numpy(), attention.key_weight.weight.detach().numpy()
    v = attention.score_weight.weight.detach().numpy()[0]

    memory = []
    h = np.zeros(32)
    for frame in segment:
        h = gru_step(encoder, frame, h)
        memory.append(h)
    s, y = h, np.zeros(2)
    for prediction in predictions:
        energies = np.exp([v @ np.tanh(w @ s + u @ h_j) for h_j in memory])
        context = sum(a * h_j for a, h_j in zip(energies / energies.sum(), memory, strict=True))
        s = gru_step(decoder, np.concatenate([context, y]), s)
        y = dense_tanh(model.output, s)
        np.testing.assert_allclose(prediction, y, rtol=0.0, atol=1e-12)


def test_mlp_is_its_equations() -> None:
    model: MLP = make("mlp").double()
    frame = frames(1, 1).double()
    x: Array = frame[0, 0].numpy()
    layers = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    for layer in layers[:-1]:
        x = np.maximum(0.0, layer.weight.detach().numpy() @ x + layer.bias.detach().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(model(frame)[0, 0].numpy(), dense_tanh(layers[-1], x), rtol=0.0, atol=1e-12)
