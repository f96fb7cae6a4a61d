"""The live model: its equations, its streaming contract, and its training pass."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract import verify_model, weights_in_numpy
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from train.models import LiveModel
from train.models.live import MemberGRUCell, MemberLinear

N_FEATURES = 9
SMALL: dict[str, Any] = {
    "n_features": N_FEATURES,
    "n_running": 5,
    "running_memory_frames": 6,
    "n_members": 3,
    "n_embedding": 12,
    "n_hidden": 4,
    "n_attention": 7,
}
Array = npt.NDArray[np.float64]


def make(seed: int = 0, *, linear: bool = True, **arguments: Any) -> LiveModel:
    """A small model in evaluation mode. linear: with a linear readout that is not 0."""
    torch.manual_seed(seed)
    model = LiveModel(**{**SMALL, **arguments}).eval()
    if linear:
        model.linear_weight.copy_(0.1 * torch.randn_like(model.linear_weight))
        model.linear_bias.copy_(0.1 * torch.randn_like(model.linear_bias))
    return model


def frames(batch_size: int, n_frames: int, n_features: int = N_FEATURES, seed: int = 1) -> Tensor:
    return torch.randn(batch_size, n_frames, n_features, generator=torch.Generator().manual_seed(seed))


def labels_for(sequence: Tensor, seed: int = 2) -> Tensor:
    return torch.rand(*sequence.shape[:2], 2, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


def close(actual: Tensor, expected: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=atol)


# --- on a stream


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"n_running": 0, "linear_share": 0.0},
        {"n_running": N_FEATURES, "running_memory_frames": 1},
        {"n_members": 1, "memory_frames": 1},
        {"memory_frames": 3, "running_memory_frames": 100, "linear_share": 1.0},
    ],
    ids=str,
)
def test_streaming_contract(arguments: dict[str, Any]) -> None:
    verify_model(make(**arguments), frames(3, 25))


def test_streaming_contract_at_full_size_and_without_memory() -> None:
    torch.manual_seed(0)
    model = LiveModel(690, n_running=248)
    model.linear_weight.copy_(0.01 * torch.randn_like(model.linear_weight))
    verify_model(model, frames(2, 20, 690))
    verify_model(make(n_running=0, linear_share=1.0), frames(3, 25), stateful=False)


def test_the_state_grows_to_seven() -> None:
    model = make()
    state = model.architecture.initial_state()
    counts = []
    for frame in frames(1, 11)[0].numpy():
        counts.append((state.heard, state.memory.shape[1], state.keys.shape[1]))
        _, state = model.architecture.step(weights_in_numpy(model), frame, state)
    assert counts == [(min(k, 6), min(k, 7), min(k, 7)) for k in range(11)]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
def test_ten_thousand_frames_of_noise_leave_the_state_bounded(scale: float) -> None:
    """Of frames as in training, at the scaler's bound, and far beyond it."""
    model = make(n_members=2, memory_frames=4)
    weights, rng = weights_in_numpy(model), np.random.default_rng(3)
    state = early = model.architecture.initial_state()
    for k in range(10_000):
        frame = (scale * rng.normal(size=N_FEATURES)).astype(np.float32)
        prediction, state = model.architecture.step(weights, frame, state)
        assert (np.abs(prediction) <= 1.0).all()
        if k == 50:
            early = state
    for name, before, after in zip(state._fields, early, state, strict=True):
        assert np.asarray(before).shape == np.asarray(after).shape, name
        assert np.isfinite(np.asarray(after)).all(), name
    for name in ("encoder", "decoder", "prediction"):
        assert np.abs(getattr(state, name)).max() <= 1.0, name
    for name in ("mean", "square", "memory", "keys"):
        assert np.abs(getattr(state, name)).max() <= 5.0 * np.abs(getattr(early, name)).max() + 5.0


# --- the equations again, in plain NumPy and double precision


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def weights_of(layer: MemberLinear, member: int) -> tuple[Array, Array]:
    """A member's matrix, shape (n_out, n_in), and bias."""
    bias = np.zeros(layer.weight.shape[2]) if layer.bias is None else layer.bias[member, 0].detach().numpy()
    return layer.weight[member].detach().numpy().T, bias


def gru_step(cell: MemberGRUCell, member: int, x: Array, h: Array) -> Array:
    (w, b), (u, c) = weights_of(cell.from_input, member), weights_of(cell.from_hidden, member)
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = np.split(w @ x + b, 3), np.split(u @ h + c, 3)
    reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
    return np.asarray((1.0 - update) * np.tanh(new_x + reset * new_h) + update * h)


def calculated(model: LiveModel, sequence: Array) -> tuple[Array, Array]:
    """The mixed predictions of one stream, shape (frames, 2), and the attention at its last frame."""
    inputs = []
    for t in range(len(sequence)):
        # By recursion, since it is leaky beyond the memory; another test compares the start with numpy's mean.
        if t == 0:
            mean, square = np.zeros(model.architecture.n_running), np.zeros(model.architecture.n_running)
        n = min(t + 1, model.architecture.running_memory_frames)
        running = sequence[t, : model.architecture.n_running]
        mean = ((n - 1) * mean + running) / n
        square = ((n - 1) * square + running**2) / n
        inputs.append(np.concatenate([sequence[t], mean, np.sqrt(np.maximum(square - mean**2, 0.0) + 1e-6)]))
    by_member, attention = [], []
    for member in range(model.architecture.n_members):
        embed, embed_bias = weights_of(model.embedding, member)
        query, _ = weights_of(model.query, member)
        key, key_bias = weights_of(model.key, member)
        score, _ = weights_of(model.score, member)
        out, out_bias = weights_of(model.output, member)
        g, s, y = np.zeros(model.architecture.n_hidden), np.zeros(model.architecture.n_hidden), np.zeros(2)
        memory: list[Array] = []
        predictions = []
        for x in inputs:
            z = np.maximum(0.0, embed @ x + embed_bias)
            g = gru_step(model.encoder, member, z, g)
            memory = [*memory, np.concatenate([z, g])][-model.architecture.memory_frames :]
            energies = np.exp([(score @ np.tanh(query @ s + key @ m + key_bias))[0] for m in memory])
            context = np.asarray(sum(a * m for a, m in zip(energies / energies.sum(), memory, strict=True)))
            s = gru_step(model.decoder, member, np.concatenate([context, y]), s)
            y = np.tanh(out @ np.concatenate([context, s]) + out_bias)
            predictions.append(y)
        by_member.append(np.stack(predictions))
        attention.append(energies / energies.sum())
    linear = np.stack(inputs) @ model.linear_weight.numpy() + model.linear_bias.numpy()
    share = model.linear_share
    mixed = (1.0 - share) * np.mean(by_member, axis=0) + share * np.clip(linear, -1.0, 1.0)
    return np.asarray(mixed), np.asarray(np.mean(attention, axis=0))


@pytest.mark.parametrize("memory_frames", [1, 3, 8])
@pytest.mark.parametrize("n_running", [0, 5])
def test_it_computes_its_equations(memory_frames: int, n_running: int) -> None:
    """Over more frames than are remembered; at the start the memory is shorter."""
    model = make(memory_frames=memory_frames, n_running=n_running, linear_share=0.3).double()
    sequence = frames(1, 12).double()
    predictions, attention = calculated(model, sequence[0].numpy())
    with torch.no_grad():
        np.testing.assert_allclose(model(sequence)[0].numpy(), predictions, rtol=0.0, atol=1e-12)
    state = model.architecture.initial_state()
    for k, frame in enumerate(sequence[0].float().numpy()):
        _, state = model.architecture.step(weights_in_numpy(model.float()), frame, state)
        assert state.attention.shape == (min(k + 1, memory_frames),)
    np.testing.assert_allclose(state.attention, attention, rtol=0.0, atol=1e-6)


# --- running statistics, linear readout


@pytest.mark.parametrize("memory_frames", [1, 6, 50])
def test_running_statistics_are_numpys_at_first(memory_frames: int) -> None:
    model = make(running_memory_frames=memory_frames)
    sequence = frames(2, 9)
    inputs = model.inputs(sequence).numpy()
    assert inputs.shape == (2, 9, model.architecture.n_inputs) == (2, 9, N_FEATURES + 10)
    np.testing.assert_array_equal(inputs[..., :N_FEATURES], sequence.numpy())
    running = sequence[..., :5].double().numpy()
    for t in range(min(9, memory_frames)):
        so_far = running[:, : t + 1]
        np.testing.assert_allclose(inputs[:, t, N_FEATURES:-5], so_far.mean(axis=1), rtol=0.0, atol=1e-6)
        np.testing.assert_allclose(inputs[:, t, -5:], np.sqrt(so_far.var(axis=1) + 1e-6), rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_the_linear_readout_is_ridge_regression(penalty: float) -> None:
    model = make(linear=False)
    inputs, labels = 3.0 + frames(1, 200, model.architecture.n_inputs)[0], labels_for(frames(1, 200))[0]
    model.fit_linear(inputs, labels, penalty)
    ridge = Ridge(alpha=len(inputs) * penalty).fit(inputs.double().numpy(), labels.double().numpy())
    np.testing.assert_allclose(model.linear_weight.numpy(), ridge.coef_.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.linear_bias.numpy(), ridge.intercept_, rtol=1e-4, atol=1e-5)
    # Fewer frames than features can be fitted, too.
    model.fit_linear(inputs[:4], labels[:4], penalty)
    assert torch.isfinite(model.linear_weight).all()


@pytest.mark.slow
def test_the_linear_share_mixes() -> None:
    sequence = 5.0 * frames(2, 7)
    with torch.no_grad():
        network, mixed, linear = (make(linear_share=share)(sequence) for share in (0.0, 0.25, 1.0))
        model = make(linear_share=1.0)
        inputs = model.inputs(sequence)
        expected = torch.clamp(inputs @ model.linear_weight + model.linear_bias, -1.0, 1.0)
        assert expected.abs().max() == 1.0, "the readout exceeds the range and is clipped"
        close(linear, expected)
        close(mixed, 0.75 * network + 0.25 * linear)
        close(network, make(linear_share=0.0).training_pass(sequence).predictions.mean(dim=0))
        assert torch.equal(network, make(linear_share=0.0, linear=False)(sequence)), "the linear readout has no effect"


# --- training passes


def as_features(model: LiveModel, sequence: Tensor) -> tuple[LiveModel, Tensor]:
    """A model with the same weights that takes all inputs as features, and the inputs."""
    plain = make(n_features=model.architecture.n_inputs, n_running=0, linear=False)
    plain.load_state_dict(model.state_dict())
    return plain, model.inputs(sequence)


@pytest.mark.parametrize("run_frames", [1, 5, 12, 40])
def test_runs_are_cut_to_length(run_frames: int) -> None:
    """Each begins with an initial state; the running statistics include the frames before."""
    model, sequence = make(), frames(2, 12)
    labels = labels_for(sequence)
    plain, inputs = as_features(model, sequence)
    with torch.no_grad():
        cut = model.training_pass(sequence, run_frames=run_frames)
        forced = model.training_pass(sequence, labels, 1.0, run_frames)
        if run_frames >= 12:
            assert torch.equal(cut.states, model.training_pass(sequence).states)
        assert cut.predictions.shape == (3, 2, 12, 2)
        assert cut.states.shape == (3, 2, 12, 4)
        for start in range(0, 12, run_frames):
            run = slice(start, start + run_frames)
            alone = plain.training_pass(inputs[:, run])
            close(cut.predictions[:, :, run], alone.predictions)
            close(cut.states[:, :, run], alone.states)
            close(forced.states[:, :, run], plain.training_pass(inputs[:, run], labels[:, run], 1.0).states)
        # With statistics of the run alone it would be something else.
        if run_frames < 12:
            other = model.training_pass(sequence[:, run_frames : 2 * run_frames]).predictions
            assert not torch.allclose(cut.predictions[:, :, run_frames : 2 * run_frames], other, atol=1e-4)


def test_runs_without_wanted_frames_are_skipped() -> None:
    model, sequence = make(), frames(2, 12)
    wanted = torch.zeros(2, 12, dtype=torch.bool)
    # One frame of one sequence is enough for its run, the second of four.
    wanted[1, 4] = True
    with torch.no_grad():
        whole = model.training_pass(sequence, run_frames=3)
        part = model.training_pass(sequence, run_frames=3, wanted=wanted)
    for everything, some in zip(whole, part, strict=True):
        assert some.shape == everything.shape
        assert torch.equal(some[:, :, 3:6], everything[:, :, 3:6])
        assert not some[:, :, :3].any()
        assert not some[:, :, 6:].any()


def test_teacher_forcing_feeds_back_the_label() -> None:
    model, sequence = make(), frames(2, 8)
    labels = labels_for(sequence)
    with torch.no_grad():
        forced = model.training_pass(sequence, labels, teacher_forcing=1.0)
        # Another label at frame 3 has an effect from frame 4 on.
        other_labels = labels.clone()
        other_labels[:, 3] = -labels[:, 3]
        other = model.training_pass(sequence, other_labels, teacher_forcing=1.0)
        assert torch.equal(forced.states[:, :, :4], other.states[:, :, :4])
        assert torch.equal(forced.predictions[:, :, :4], other.predictions[:, :, :4])
        assert ((forced.states - other.states)[:, :, 4].abs().amax(dim=2) > 1e-6).all()
        # The prediction is not fed back: another output layer leaves the states unchanged.
        free = model.training_pass(sequence)
        assert torch.equal(model.training_pass(sequence, labels, teacher_forcing=0.0).states, free.states)
        assert model.output.bias is not None
        model.output.bias.add_(0.5)
        assert torch.equal(model.training_pass(sequence, labels, teacher_forcing=1.0).states, forced.states)
        assert not torch.equal(model.training_pass(sequence).states, free.states)


def test_without_a_label_the_prediction_is_fed_back() -> None:
    model, sequence = make(), frames(2, 8)
    labels, wanted = labels_for(sequence), torch.ones(2, 8, dtype=torch.bool)
    wanted[0, 3] = False
    with torch.no_grad():
        forced = model.training_pass(sequence, labels, teacher_forcing=1.0, wanted=wanted)
        own = labels.clone().expand(3, 2, 8, 2).clone()
        own[:, 0, 3] = forced.predictions[:, 0, 3]
        for member in range(3):
            by_hand = model.training_pass(sequence, own[member], teacher_forcing=1.0)
            close(forced.states[member], by_hand.states[member])
        all_labels = model.training_pass(sequence, labels, teacher_forcing=1.0)
        assert torch.equal(forced.states[:, 1], all_labels.states[:, 1])
        assert ((forced.states - all_labels.states)[:, 0, 4].abs().amax(dim=1) > 1e-6).all()


def test_scheduled_sampling_draws_for_every_sequence_and_frame() -> None:
    model, sequence = make(n_members=2), frames(1, 3).expand(2_000, 3, N_FEATURES)
    labels = torch.full((2_000, 3, 2), 0.9)
    torch.manual_seed(5)
    with torch.no_grad():
        drawn = model.training_pass(sequence, labels, teacher_forcing=0.3).states
        forced = model.training_pass(sequence[:1], labels[:1], teacher_forcing=1.0).states
        free = model.training_pass(sequence[:1]).states

    def like(states: Tensor, frame: int) -> Tensor:
        """Which sequences have this state at the frame; shape (members, sequences)."""
        return (drawn[:, :, frame] - states[:, :, frame]).abs().amax(dim=2) < 1e-6

    second_forced = like(forced, 1)
    assert torch.equal(second_forced, ~like(free, 1)), "the label or the prediction, nothing between"
    assert torch.equal(second_forced[0], second_forced[1]), "the same for all members"
    assert second_forced[0].double().mean() == pytest.approx(0.3, abs=0.04)
    # The next frame is drawn independently: .09 of all are forced twice.
    assert like(forced, 2)[0].double().mean() == pytest.approx(0.09, abs=0.03)


DROPOUTS: dict[str, Any] = {"input_dropout": 0.25, "embedding_dropout": 0.5, "state_dropout": 0.4}


def inputs_of(layer: nn.Module) -> list[tuple[Tensor, ...]]:
    """A list that gets the layer's inputs, call by call."""
    calls: list[tuple[Tensor, ...]] = []
    layer.register_forward_pre_hook(
        lambda _layer, inputs: calls.append(tuple(each.detach().clone() for each in inputs))
    )
    return calls


def dropped(**arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The factors applied to the inputs, the embedding, and the encoder's and decoder's states in a training pass over
    ones: (members, batch, frames, units)."""
    model = make(n_features=200, n_running=0, n_embedding=150, n_hidden=100, linear=False, **DROPOUTS).train()
    batch, n_frames = 4, 6
    embedding, encoder, key, output = map(inputs_of, (model.embedding, model.encoder, model.key, model.output))
    with torch.no_grad():
        # The embedding is 1 for any input.
        model.embedding.weight.zero_()
        assert model.embedding.bias is not None
        model.embedding.bias.fill_(1.0)
        model.training_pass(torch.ones(batch, n_frames, 200), **arguments)
    inputs = torch.cat([rows.reshape(3, batch, -1, 200) for (rows,) in embedding], dim=2)
    embedded = torch.stack([rows for rows, _ in encoder], dim=2)
    # The states themselves are never 0, so a 0 was dropped.
    encoded = torch.stack([rows[..., 150:] for (rows,) in key], dim=2)
    decoded = torch.stack([rows[..., -100:] for (rows,) in output], dim=2)
    return inputs, embedded, encoded, decoded


@pytest.mark.parametrize("run_frames", [None, 3])
def test_dropout_is_drawn_once_per_sequence_and_member(run_frames: int | None) -> None:
    torch.manual_seed(7)
    found = dropped(run_frames=run_frames)
    for rows, share in zip(found, (0.25, 0.5, 0.4, 0.4), strict=True):
        kept = rows != 0.0
        length = run_frames or 6
        runs = [kept[:, :, start : start + length] for start in range(0, 6, length)]
        for run in runs:
            assert (run == run[:, :, :1]).all(), "the same at every frame of a run"
            assert 1.0 - run.double().mean() == pytest.approx(share, abs=0.06)
            of_each = run[:, :, 0].flatten(0, 1).numpy()
            assert len(np.unique(of_each, axis=0)) == len(of_each), "each sequence and member has its own"
        if run_frames:
            assert not torch.equal(runs[0], runs[1]), "and each run"
    # The mean stays the same.
    for rows, share in zip(found[:2], (0.25, 0.5), strict=True):
        np.testing.assert_allclose(np.unique(rows.numpy()), [0.0, 1.0 / (1.0 - share)], rtol=1e-6)


def test_nothing_is_dropped_outside_training() -> None:
    model, sequence = make(**DROPOUTS), frames(2, 5)
    with torch.no_grad():
        assert torch.equal(model(sequence), model(sequence))
        assert torch.equal(model(sequence), make()(sequence))
        model.train()
        assert not torch.equal(model.training_pass(sequence).states, model.training_pass(sequence).states)


def test_every_parameter_gets_a_gradient_and_members_are_independent() -> None:
    model, sequence = make().train(), frames(16, 8)
    names, parameters = zip(*model.named_parameters(), strict=True)
    predictions = model.training_pass(sequence).predictions
    for name, gradient in zip(names, torch.autograd.grad(predictions.square().mean(), parameters), strict=True):
        assert (gradient.flatten(1).abs().amax(dim=1) > 0.0).all(), name
    predictions = model.training_pass(sequence).predictions
    for name, gradient in zip(names, torch.autograd.grad(predictions[1].square().mean(), parameters), strict=True):
        assert gradient[0].abs().max() == gradient[2].abs().max() == 0.0, name
    assert not {"linear_weight", "linear_bias"} & set(names), "fitted, not trained"


# --- arguments


def test_arguments_and_weights_rebuild_the_model() -> None:
    model = make(n_hidden=6, linear_share=0.3, memory_frames=5)
    arguments = json.loads(json.dumps(asdict(model.architecture)))
    assert arguments["n_hidden"] == 6
    assert arguments["memory_frames"] == 5
    rebuilt = LiveModel(**arguments).eval()
    rebuilt.load_state_dict(model.state_dict())
    assert asdict(rebuilt.architecture) == asdict(model.architecture)
    with torch.no_grad():
        assert torch.equal(rebuilt(frames(2, 10)), model(frames(2, 10)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, (0, 2.0, True, "8")) for name in ("n_features", "running_memory_frames", "n_members", "n_embedding")),
        *((name, (0, 2.0, True, "8")) for name in ("n_hidden", "n_attention", "memory_frames")),
        ("n_running", (-1, N_FEATURES + 1, 2.5)),
        ("linear_share", (-0.1, 1.1, float("nan"))),
        *((name, (-0.1, 1.0, float("nan"))) for name in DROPOUTS),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=name):
            make(**{name: value}, linear=False)
