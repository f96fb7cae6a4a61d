"""The published models: their equations, their use on a stream, and what the checkpoint and training need of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract import verify_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from realtime_mer.models.architectures import MLP, MODELS, SegmentModel, Seq2Seq, Seq2SeqAttention, StreamingModel
from realtime_mer.models.seq2seq import SlidingSegmentModel

N_FEATURES = 12
PUBLISHED = ["mlp", "seq2seq", "seq2seq_a"]
WITH_MEMORY = ["seq2seq", "seq2seq_a"]
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, which wait for one another where the machine is busy."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


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
def test_a_stream_gets_the_last_output_of_the_segment_that_ends_now(name: str) -> None:
    model, sequence = make(name), frames(2, 11)
    with torch.no_grad():
        expected = [model.forward_segment(sequence[:, max(0, k - 7) : k + 1])[:, -1] for k in range(11)]
        torch.testing.assert_close(model(sequence), torch.stack(expected, dim=1), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_first_frames_are_a_shorter_segment_not_a_padded_one(name: str) -> None:
    model, sequence = make(name), frames(2, 3)
    padded = torch.cat([torch.zeros(2, 5, N_FEATURES), sequence], dim=1)
    with torch.no_grad():
        difference = model(sequence)[:, -1] - model.forward_segment(padded)[:, -1]
    assert difference.abs().min() > 1e-4


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_state_holds_the_last_seven_frames_and_restores(name: str) -> None:
    model, sequence = make(name), frames(2, 12)
    state = model.initial_state(2)
    counts = []
    with torch.no_grad():
        for k in range(11):
            counts.append(state.frames.shape[1])
            _, state = model.step(sequence[:, k], state)
        assert counts == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7]
        assert torch.equal(state.frames, sequence[:, 4:11])
        stored = {field: part.numpy().copy() for field, part in zip(state._fields, state, strict=True)}
        restored = type(state)(**{field: torch.from_numpy(array) for field, array in stored.items()})
        assert torch.equal(model.step(sequence[:, 11], restored)[0], model.step(sequence[:, 11], state)[0])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(PUBLISHED), n_frames=st.integers(0, 7), batch_size=st.integers(1, 3), length=st.integers(1, 4)
)
def test_forward_is_stepping_for_any_length(name: str, n_frames: int, batch_size: int, length: int) -> None:
    model = make(name, **({} if name == "mlp" else {"segment_frames": length}))
    sequence = frames(batch_size, n_frames)
    state = model.initial_state(batch_size)
    with torch.no_grad():
        whole = model(sequence)
        assert whole.shape == (batch_size, n_frames, 2)
        for k in range(n_frames):
            prediction, state = model.step(sequence[:, k], state)
            torch.testing.assert_close(prediction, whole[:, k], rtol=0.0, atol=1e-6)


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


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_last_prediction_depends_on_the_first_frame(name: str) -> None:
    segment = frames(1, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(make(name).forward_segment(segment)[:, -1].sum(), segment)
    assert gradient[0, 0].abs().max() > 1e-6


@pytest.mark.parametrize("name", PUBLISHED)
def test_arguments_and_weights_rebuild_the_model(name: str) -> None:
    model = make(name, n_hidden=7)
    arguments = json.loads(json.dumps(model.arguments()))
    rebuilt = type(model)(**arguments)
    rebuilt.load_state_dict(model.state_dict())
    sequence = frames(2, 10)
    with torch.no_grad():
        assert torch.equal(rebuilt(sequence), model(sequence))
    assert rebuilt.arguments() == model.arguments()
    assert rebuilt.arguments()["n_hidden"] == 7


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_seed_decides_the_weights(name: str) -> None:
    sequence = frames(2, 10)
    with torch.no_grad():
        assert torch.equal(make(name, seed=3)(sequence), make(name, seed=3)(sequence))
        assert not torch.equal(make(name, seed=3)(sequence), make(name, seed=4)(sequence))


def test_the_published_sizes() -> None:
    layers = [layer for layer in make("mlp").layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [32, 32, 32, 32, 32, 2]
    for name in WITH_MEMORY:
        assert make(name).arguments() == {"n_features": N_FEATURES, "n_hidden": 32, "segment_frames": 8}


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name in WITH_MEMORY for argument in ("n_features", "n_hidden", "segment_frames")]
    + [("mlp", argument) for argument in ("n_features", "n_hidden", "n_layers")],
)
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "8"])
def test_an_impossible_argument_is_named(name: str, argument: str, value: Any) -> None:
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
