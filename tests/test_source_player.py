"""The sound output: its sound, its position, and its failures."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import numpy as np
import pytest
from fake_output import N_LEAD_IN, PIECE_S, FakeOutput
from recordings import wait_until

from realtime_mer.sources import player as player_module
from realtime_mer.sources.devices import DeviceError
from realtime_mer.sources.player import SoundPlayer
from realtime_mer.types import FloatArray

RATE_HZ, END_S = 48_000, 2.0


def ramp(from_s: float) -> Generator[FloatArray, None, None]:
    """Each sample is its own time, up to END_S."""
    now, end = round(from_s * RATE_HZ), round(END_S * RATE_HZ)
    while now < end:
        n = min(4_800, end - now)
        yield np.repeat((np.arange(now, now + n) / RATE_HZ).astype(np.float32)[:, None], 2, axis=1)
        now += n


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> FakeOutput:
    return FakeOutput().install(monkeypatch)


@pytest.fixture
def player() -> Iterator[SoundPlayer]:
    made = SoundPlayer(ramp, RATE_HZ)
    yield made
    made.close()


@pytest.mark.parametrize("other_rate_hz", [None, 44_100])
def test_it_plays_to_the_end_at_any_rate(
    monkeypatch: pytest.MonkeyPatch, player: SoundPlayer, other_rate_hz: int | None
) -> None:
    output = FakeOutput(only_rate_hz=other_rate_hz).install(monkeypatch)
    assert player.heard_s() is None
    player.play(0.5)
    assert player.heard_s() == 0.5
    output.take_all()
    wait_until(lambda: player.heard_s() is None)
    assert player.given[0] == pytest.approx(END_S, abs=1e-9)
    assert player.fault == ""
    assert output.rate_hz == (other_rate_hz or RATE_HZ)
    expected = np.arange(round(0.5 * output.rate_hz), round(END_S * output.rate_hz)) / output.rate_hz
    assert output.sound.shape == (len(expected), 2)
    # A resampler rings at the edges.
    assert np.abs(output.sound[:, 0] - expected)[200:-200].max() < 1e-4


def test_it_reports_what_the_output_has_taken(output: FakeOutput, player: SoundPlayer) -> None:
    player.open()
    assert player.given == (0.0, 0.0)
    player.play(1.0)
    output.take(N_LEAD_IN + 10)
    wait_until(lambda: player.given[0] > 1.0 + 9.5 * PIECE_S)
    assert player.given[0] == pytest.approx(1.0 + 10 * PIECE_S)
    heard_s = player.heard_s()
    assert heard_s is not None
    assert 1.0 <= heard_s <= player.given[0]
    expected = np.concatenate(list(ramp(1.0)))[: len(output.sound)]
    assert len(expected) >= 10 * 960
    assert np.array_equal(output.sound, expected)


def test_play_replaces_the_moment_that_is_played(output: FakeOutput, player: SoundPlayer) -> None:
    player.play(0.0)
    output.take(N_LEAD_IN + 4)
    player.play(1.5)
    output.take(2 + N_LEAD_IN)
    samples = output.sound[:, 0]
    started_again = int(np.flatnonzero(samples == 1.5)[0])
    # One write may have been under way.
    assert samples[:started_again].max() <= 6 * PIECE_S
    player.stop()
    assert player.heard_s() is None


def test_a_pause_is_silent_and_loses_nothing(output: FakeOutput, player: SoundPlayer) -> None:
    player.play(0.5)
    output.take(N_LEAD_IN + 4)
    player.pause()
    output.take(10)
    paused = player.given
    output.take(10)
    assert player.given == paused
    player.resume()
    output.take_all()
    wait_until(lambda: player.heard_s() is None)
    samples = output.sound[:, 0]
    assert len(samples) >= 1.5 * RATE_HZ + 18 * 960
    assert np.array_equal(samples[samples > 0.0], np.concatenate(list(ramp(0.5)))[:, 0])


@pytest.mark.parametrize("stalls", [False, True])
def test_an_output_that_is_lost_is_reported(
    output: FakeOutput, player: SoundPlayer, monkeypatch: pytest.MonkeyPatch, stalls: bool
) -> None:
    player.play(0.0)
    output.take(N_LEAD_IN + 1)
    if stalls:
        monkeypatch.setattr(player_module, "_STALLED_S", 0.1)
    else:
        output.unplug()
    wait_until(lambda: bool(player.fault))
    assert player.fault.startswith("The sound output has gone away")
    assert player.heard_s() is None
    player.play(1.0)
    assert player.heard_s() is None
    output.unplug()


@pytest.mark.parametrize(
    ("refuses", "expected"),
    [
        ("library", "The library PortAudio cannot be used."),
        ("query", "There is no sound output."),
        ("open", "The sound output 'card' cannot be opened: Device unavailable."),
    ],
)
def test_an_output_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, player: SoundPlayer, refuses: str, expected: str
) -> None:
    FakeOutput(refuses=refuses).install(monkeypatch)
    with pytest.raises(DeviceError, match=expected):
        player.open()
    assert player.fault == expected
    later = SoundPlayer(ramp, RATE_HZ)
    later.play(0.0)
    wait_until(lambda: later.fault == expected)
    assert later.heard_s() is None


def test_a_sound_system_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch, player: SoundPlayer) -> None:
    answers = threading.Event()

    def portaudio() -> None:
        answers.wait()
        raise DeviceError("Too late.")

    monkeypatch.setattr(player_module, "portaudio", portaudio)
    monkeypatch.setattr(player_module, "_OPEN_TIMEOUT_S", 0.1)
    with pytest.raises(DeviceError, match="does not answer"):
        player.open()
    answers.set()


def test_a_fault_in_the_sound_itself_is_reported(output: FakeOutput) -> None:
    def damaged(_from_s: float) -> Generator[FloatArray, None, None]:
        yield np.zeros((960, 2), dtype=np.float32)
        raise DeviceError("The file is damaged.")

    player = SoundPlayer(damaged, RATE_HZ)
    output.take_all()
    player.play(0.0)
    wait_until(lambda: player.fault == "The file is damaged.")
    player.close()
    assert output.closed
