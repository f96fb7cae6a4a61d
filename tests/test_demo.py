"""The built-in piece: the music itself, what the shipped model says of it, and how it is played."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_clock import install_clock, read_all, sound_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import LevelMeterSettings
from realtime_mer.demo import output as output_module
from realtime_mer.demo import source as demo_module
from realtime_mer.demo.instruments import RATE_HZ, samples_in
from realtime_mer.demo.mixing import limited
from realtime_mer.demo.output import SoundOutput
from realtime_mer.demo.piece import Movement, melody, movements, pitch_of, render
from realtime_mer.demo.source import DemoSource
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import default_checkpoint_path, load_checkpoint
from realtime_mer.sources import Capture
from realtime_mer.sources.devices import DeviceError
from realtime_mer.sources.grid import STEPS, on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
BRIGHT, TENSE, CALM, SAD = movements()
TIMEOUT_S = 30.0
# The descriptors look back ten seconds; after five, most of what they see is the movement's own.
SETTLED_S = 5.0

SHORT_MOVEMENTS = (Movement("First", "loud", 0.0, 1.0), Movement("Second", "soft", 1.0, 1.5))
SHORT_RENDERED = np.random.default_rng(0).uniform(-0.5, 0.5, (samples_in(1.5), 2)).astype(np.float32)
SHORT_PIECE = on_grid(SHORT_RENDERED)[0]


@pytest.fixture(scope="module")
def rendered() -> list[FloatArray]:
    return list(render())


@pytest.fixture
def short_piece(monkeypatch: pytest.MonkeyPatch) -> FloatArray:
    """A piece of a second and a half instead of the real one."""
    monkeypatch.setattr(demo_module, "render", lambda: iter([SHORT_RENDERED[:RATE_HZ], SHORT_RENDERED[RATE_HZ:]]))
    monkeypatch.setattr(demo_module, "movements", lambda: SHORT_MOVEMENTS)
    return SHORT_PIECE


def read_until(source: DemoSource, enough: Callable[[list[Capture]], bool]) -> list[Capture]:
    """What the source gives until it is enough, without a fake clock."""
    captures: list[Capture] = []
    deadline = time.monotonic() + TIMEOUT_S
    while not enough(captures):
        assert time.monotonic() < deadline, "the source gives nothing more"
        capture = source.read()
        if capture is None:
            time.sleep(0.002)
        else:
            captures.append(capture)
    return captures


def state_of(source: DemoSource) -> SourceState:
    """For mypy, to which an attribute that was compared once is what it was then."""
    return source.state


# --- the music ---


@pytest.mark.parametrize(("name", "pitch"), [("C4", 60), ("A4", 69), ("F#4", 66), ("Bb3", 58), ("C-1", 0)])
def test_notes_have_their_midi_pitch(name: str, pitch: int) -> None:
    assert pitch_of(name) == pitch


@pytest.mark.parametrize("name", ["H4", "C", "c4", "C##4", ""])
def test_what_is_no_note_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a note"):
        pitch_of(name)


def test_a_melody_lies_in_time_as_it_is_written() -> None:
    notes = melody("C4'/1 -/.5 | E4/1.5", beat_s=0.5)
    assert [(note.pitch, note.start_s, note.length_s) for note in notes] == [(60, 0.0, 0.5), (64, 0.75, 0.75)]
    assert notes[0].level > notes[1].level


def test_the_movements_follow_one_another_and_have_the_four_moods() -> None:
    assert [movement.mood for movement in movements()] == ["bright and fast", "tense", "calm", "sad"]
    assert BRIGHT.start_s == 0.0
    assert all(before.end_s == after.start_s for before, after in pairwise(movements()))
    assert all(14.0 <= movement.end_s - movement.start_s <= 20.0 for movement in movements())


def test_every_movement_has_the_samples_of_its_time(rendered: list[FloatArray]) -> None:
    for samples, movement in zip(rendered, movements(), strict=True):
        assert samples.dtype == np.float32
        assert samples.shape == (samples_in(movement.end_s) - samples_in(movement.start_s), 2)


def test_the_piece_is_loud_enough_and_never_near_clipping(rendered: list[FloatArray]) -> None:
    for samples in rendered:
        assert np.max(np.abs(samples)) < 10.0 ** (-1.0 / 20.0)
        assert -26.0 < 10.0 * np.log10(np.mean(samples.astype(np.float64) ** 2)) < -12.0
    assert np.max(np.abs(rendered[-1][-samples_in(0.02) :])) < 1e-3, "it breaks off instead of fading out"


def test_a_movement_rings_on_into_the_next(rendered: list[FloatArray]) -> None:
    """Where a movement were cut off, the sound would jump."""
    for before, after in pairwise(rendered):
        around = np.concatenate([before[-400:], after[:400]])
        steps = np.max(np.abs(np.diff(around, axis=0)), axis=1)
        assert steps[399] < 2.0 * np.max(np.delete(steps, 399))
        assert np.max(np.abs(after[:20])) > 1e-3


def test_left_and_right_differ_but_weigh_the_same(rendered: list[FloatArray]) -> None:
    for samples in rendered:
        left, right = (float(np.mean(channel.astype(np.float64) ** 2)) for channel in samples.T)
        assert abs(10.0 * math.log10(left / right)) < 1.5
        assert float(np.asarray(np.corrcoef(samples.T))[0, 1]) < 0.99


def test_another_process_renders_the_same_bits(rendered: list[FloatArray]) -> None:
    code = (
        "import hashlib; from realtime_mer.demo.piece import render; "
        "print(hashlib.sha256(b''.join(samples.tobytes() for samples in render())).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(b"".join(samples.tobytes() for samples in rendered)).hexdigest()


@given(st.lists(st.floats(-50.0, 50.0, width=32), min_size=2, max_size=50))
def test_the_limiter_keeps_order_and_sign_and_what_is_soft(levels: list[float]) -> None:
    before = np.sort(np.array(levels, dtype=np.float32))
    after = limited(before)
    assert np.all(np.abs(after) <= 0.88)
    assert np.all(np.diff(after) >= 0.0)
    assert np.array_equal(after[np.abs(before) <= 0.5], before[np.abs(before) <= 0.5])


# --- what the model says of it ---


@pytest.fixture(scope="module")
def moods() -> dict[Movement, tuple[float, float]]:
    """Mean valence and arousal of each movement, played in one piece through the real pipeline."""
    source = DemoSource(loop=False, sound=False, fast=True)
    source.start()
    session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
    updates = []
    for capture in read_until(source, lambda _captures: source.state is SourceState.ENDED):
        updates += session.process(capture)
    updates += session.end_segment()
    source.close()
    found = {}
    for movement in movements():
        of_it = [u.prediction for u in updates if movement.start_s + SETTLED_S <= u.time_s <= movement.end_s]
        found[movement] = (
            float(np.mean([p.valence for p in of_it])),
            float(np.mean([p.arousal for p in of_it])),
        )
    return found


def test_the_model_hears_which_movements_are_excited(moods: dict[Movement, tuple[float, float]]) -> None:
    calmer = max(moods[CALM][1], moods[SAD][1])
    assert min(moods[BRIGHT][1], moods[TENSE][1]) > calmer + 0.15, moods


def test_the_model_hears_which_movements_are_bright(moods: dict[Movement, tuple[float, float]]) -> None:
    assert moods[BRIGHT][0] > moods[TENSE][0] + 0.1, moods
    assert moods[CALM][0] > moods[SAD][0] + 0.1, moods


# --- the source, without sound ---


def test_as_fast_as_possible_it_gives_the_piece_as_rendered(rendered: list[FloatArray]) -> None:
    source = DemoSource(loop=False, sound=False, fast=True)
    assert state_of(source) is SourceState.OPENING
    assert source.read() is None
    source.start()
    assert state_of(source) is SourceState.RUNNING
    seen: list[tuple[float, Movement]] = []
    captures: list[Capture] = []
    while source.state is not SourceState.ENDED:
        captures += read_until(source, lambda got: bool(got) or source.state is SourceState.ENDED)
        if not seen or seen[-1][1] != source.movement:
            seen.append((sum(len(c.samples) for c in captures) / RATE_HZ, source.movement))
    heard = sound_of(captures)
    assert np.array_equal(heard, on_grid(np.concatenate(rendered))[0])
    assert np.array_equal(heard * STEPS, np.rint(heard * STEPS))
    assert {(c.rate_hz, c.segment, c.dropped_samples, c.captured_s) for c in captures} == {(RATE_HZ, 0, 0, None)}
    assert [movement for _, movement in seen] == list(movements())
    assert all(movement.start_s <= at_s <= movement.start_s + 0.6 for at_s, movement in seen)
    assert source.read() is None
    source.close()


def test_it_goes_by_the_clock_and_rests_when_paused(short_piece: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = install_clock(monkeypatch)
    source = DemoSource(loop=False, sound=False)
    source.pause()
    source.start()
    assert state_of(source) is SourceState.PAUSED
    for _ in range(50):
        clock.now_s += 0.01
        assert source.read() is None
        time.sleep(0.002)
    source.resume()

    def tick(_captures: list[Capture]) -> bool:
        clock.now_s += 0.01
        return bool(_captures)

    captures = read_until(source, tick) + read_all(source)
    assert source.detail == "Now loud: “First”."
    source.pause()
    clock.now_s += 100.0
    assert (state_of(source), source.read()) == (SourceState.PAUSED, None)
    source.resume()
    n_before = sum(len(c.samples) for c in captures)
    clock.now_s += 0.2
    captures += read_all(source)
    assert sum(len(c.samples) for c in captures) - n_before == pytest.approx(0.2 * RATE_HZ, abs=500)
    for _ in range(200):
        clock.now_s += 0.01
        captures += read_all(source)
    assert state_of(source) is SourceState.ENDED
    assert source.detail == "Now soft: “Second”."
    assert np.array_equal(sound_of(captures), short_piece)
    source.close()


def test_in_a_loop_it_begins_again_without_a_gap(short_piece: FloatArray) -> None:
    source = DemoSource(loop=True, sound=False, fast=True)
    source.start()
    captures = read_until(source, lambda got: sum(len(c.samples) for c in got) >= 3 * len(short_piece))
    assert np.array_equal(sound_of(captures), np.tile(short_piece, (3, 1)))
    assert state_of(source) is SourceState.RUNNING
    source.close()
    assert state_of(source) is SourceState.ENDED
    assert source.read() is None


# --- the output, with a sound card that the test turns by hand ---


class FakeStream:
    """PortAudio's stream; the test asks it for sound."""

    def __init__(self, samplerate: int, callback: Callable[..., None], finished_callback: Callable[[], None]) -> None:
        self.rate_hz = samplerate
        self.callback = callback
        self.finished = finished_callback
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    def abort(self) -> None:
        self.finished()

    def close(self) -> None:
        self.closed = True

    def sound(self, n_samples: int) -> FloatArray:
        out = np.full((n_samples, 2), np.nan, dtype=np.float32)
        self.callback(out, n_samples, None, None)
        return out


class FakeCard:
    """Takes the place of the module sounddevice: one output, which may know one rate only, or none at all."""

    class PortAudioError(Exception):
        pass

    def __init__(self, only_rate_hz: int | None = None, missing: bool = False, busy: bool = False) -> None:
        self.only_rate_hz = only_rate_hz
        self.missing = missing
        self.busy = busy
        self.stream: FakeStream | None = None

    def query_devices(self, kind: str) -> dict[str, Any]:
        if self.missing:
            raise self.PortAudioError(f"Error querying {kind} device -1")
        return {"name": "card", "default_samplerate": float(self.only_rate_hz or 44_100)}

    def check_output_settings(self, samplerate: int, **_form: object) -> None:
        if self.only_rate_hz not in (None, samplerate):
            raise self.PortAudioError("Invalid sample rate")

    def OutputStream(self, samplerate: int, **settings: Any) -> FakeStream:  # noqa: N802 - sounddevice's name
        if self.busy:
            raise self.PortAudioError("Device unavailable")
        self.check_output_settings(samplerate)
        self.stream = FakeStream(samplerate, settings["callback"], settings["finished_callback"])
        return self.stream

    def turning(self) -> FakeStream:
        """The stream, once it has been started."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.stream is None or not self.stream.started:
            assert time.monotonic() < deadline, "the output was not started"
            time.sleep(0.002)
        return self.stream


@pytest.fixture
def install_card(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCard], FakeCard]:
    def install(card: FakeCard) -> FakeCard:
        monkeypatch.setattr(output_module, "portaudio", lambda: card)
        # The test may take its time between two blocks.
        monkeypatch.setattr(output_module, "_STALLED_S", 1000.0)
        return card

    return install


def without_lead_in(sound: FloatArray) -> FloatArray:
    return sound[int(np.flatnonzero(np.any(sound != 0.0, axis=1))[0]) :]


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("block_samples", [1, 64, 1102, 100_000])
def test_what_sounds_is_the_piece_in_blocks_of_any_size(
    install_card: Callable[[FakeCard], FakeCard], loop: bool, block_samples: int
) -> None:
    card = install_card(FakeCard())
    piece = SHORT_PIECE[:3000]
    output = SoundOutput()
    output.open()
    assert output.played() == (0, 0.0)
    output.play(piece, loop=loop)
    stream = card.turning()
    blocks = [stream.sound(block_samples) for _ in range(-(-20_000 // block_samples))]
    heard = without_lead_in(np.concatenate(blocks))
    if loop:
        assert np.array_equal(heard, np.resize(piece, heard.shape))
        assert output.played()[0] == len(heard)
    else:
        assert np.array_equal(heard[: len(piece)], piece)
        assert not np.any(heard[len(piece) :])
        assert output.played()[0] == len(piece)
    output.close()
    assert stream.closed


def test_a_paused_output_is_silent_and_goes_on_where_it_stopped(
    install_card: Callable[[FakeCard], FakeCard],
) -> None:
    card = install_card(FakeCard())
    output = SoundOutput()
    output.open()
    output.play(SHORT_PIECE, loop=False)
    stream = card.turning()
    before = stream.sound(10_000)
    at = output.played()
    output.pause()
    assert not np.any(stream.sound(10_000))
    assert output.played() == at
    output.resume()
    heard = without_lead_in(np.concatenate([before, stream.sound(10_000)]))
    assert np.array_equal(heard, SHORT_PIECE[: len(heard)])
    output.close()


@pytest.mark.parametrize("loop", [False, True])
def test_a_card_of_another_rate_plays_it_at_the_same_speed(
    install_card: Callable[[FakeCard], FakeCard], loop: bool
) -> None:
    card = install_card(FakeCard(only_rate_hz=48_000))
    output = SoundOutput()
    output.open()
    output.play(SHORT_PIECE, loop=loop)
    stream = card.turning()
    assert stream.rate_hz == 48_000
    stream.sound(4800)
    for _ in range(100):
        stream.sound(480)
    assert output.played()[0] == pytest.approx(RATE_HZ, abs=2)
    for _ in range(200):
        stream.sound(480)
    assert output.played()[0] == pytest.approx(3 * RATE_HZ, abs=2) if loop else output.played()[0] == len(SHORT_PIECE)
    output.close()


@pytest.mark.parametrize(
    ("card", "expected"),
    [(FakeCard(missing=True), "There is no sound output."), (FakeCard(busy=True), "cannot be opened: Device unavail")],
)
def test_an_output_that_cannot_be_had_is_refused_in_a_sentence(
    install_card: Callable[[FakeCard], FakeCard], card: FakeCard, expected: str
) -> None:
    install_card(card)
    output = SoundOutput()
    with pytest.raises(DeviceError, match=expected):
        output.open()
    output.close()


def test_what_is_analysed_is_what_the_output_has_taken(
    short_piece: FloatArray, install_card: Callable[[FakeCard], FakeCard]
) -> None:
    card = install_card(FakeCard())
    source = DemoSource(loop=False, sound=True)
    source.start()
    read_until(source, lambda _captures: card.stream is not None and card.stream.started)
    stream = card.turning()
    heard, captures = [], []
    for n_samples in (3000, 1, 4000, 20_000, 0, 30_000):
        heard.append(stream.sound(n_samples))
        captures += read_all(source)
        taken = min(len(without_lead_in(np.concatenate(heard))), len(short_piece)) if np.any(heard[-1]) else None
        assert taken is None or sum(len(c.samples) for c in captures) == taken
    assert state_of(source) is SourceState.RUNNING
    began_s = time.monotonic()
    stream.sound(50_000)
    taken_s = time.monotonic()
    captures += read_all(source)
    assert captures[-1].captured_s is not None
    assert began_s <= captures[-1].captured_s <= taken_s
    assert state_of(source) is SourceState.ENDED
    assert np.array_equal(sound_of(captures), short_piece)
    assert source.dropped_blocks == 0
    source.close()
    assert stream.closed


def test_a_reader_that_comes_much_too_late_is_told_what_it_missed(
    short_piece: FloatArray, install_card: Callable[[FakeCard], FakeCard]
) -> None:
    card = install_card(FakeCard())
    source = DemoSource(loop=True, sound=True)
    source.start()
    read_until(source, lambda _captures: card.stream is not None and card.stream.started)
    stream = card.turning()
    stream.sound(samples_in(0.1))  # the lead-in
    stream.sound(6 * RATE_HZ)
    captures = read_all(source)
    dropped_samples = captures[0].dropped_samples
    assert dropped_samples == 2 * RATE_HZ == source.dropped_blocks * RATE_HZ // 100
    assert [capture.dropped_samples for capture in captures[1:]] == [0] * (len(captures) - 1)
    expected = np.tile(short_piece, (5, 1))[dropped_samples : 6 * RATE_HZ]
    assert np.array_equal(sound_of(captures), expected)
    source.close()


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_where_the_output_goes_away_the_piece_goes_on(
    short_piece: FloatArray,
    install_card: Callable[[FakeCard], FakeCard],
    monkeypatch: pytest.MonkeyPatch,
    loop: bool,
    stalls: bool,
) -> None:
    card = install_card(FakeCard())
    source = DemoSource(loop=loop, sound=True)
    source.start()
    read_until(source, lambda _captures: card.stream is not None and card.stream.started)
    card.turning().sound(20_000)
    captures = read_all(source)
    assert "Without sound" not in source.detail
    if stalls:
        monkeypatch.setattr(output_module, "_STALLED_S", 0.3)
    else:
        card.turning().finished()
    captures += read_until(source, lambda got: sum(len(c.samples) for c in [*captures, *got]) >= len(short_piece))
    assert source.detail == "Now soft: “Second”. Without sound: The sound output has gone away."
    if loop:
        captures += read_until(source, lambda got: sum(len(c.samples) for c in got) >= 0.5 * RATE_HZ)
    else:
        assert source.read() is None
        assert state_of(source) is SourceState.ENDED
    heard = sound_of(captures)
    assert np.array_equal(heard, np.resize(short_piece, heard.shape))
    source.close()


@pytest.mark.parametrize("without_library", [False, True])
def test_without_an_output_it_goes_on_silently_and_says_why(
    short_piece: FloatArray, monkeypatch: pytest.MonkeyPatch, without_library: bool
) -> None:
    def portaudio() -> FakeCard:
        if without_library:
            raise DeviceError("The library PortAudio cannot be used.")
        return FakeCard(missing=True)

    monkeypatch.setattr(output_module, "portaudio", portaudio)
    source = DemoSource(loop=False, sound=True)
    source.start()
    why = "The library PortAudio cannot be used." if without_library else "There is no sound output."
    assert source.detail == f"Now loud: “First”. Without sound: {why}"
    captures = read_until(source, lambda _captures: source.state is SourceState.ENDED)
    assert np.array_equal(sound_of(captures), short_piece)
    source.close()


# --- the output, with a real sound server ---

PLAYER = """
import sys, time
import numpy as np
from realtime_mer.demo.source import DemoSource

source = DemoSource(loop=True, sound=True)
source.start()
captures = []

def read_to(end_s):
    while sum(len(capture.samples) for capture in captures) < end_s * 44100:
        capture = source.read()
        if capture is None:
            time.sleep(0.002)
        else:
            captures.append(capture)

read_to(2.0)
source.pause()
time.sleep(1.0)
source.resume()
read_to(4.0)
print("playing", source.detail, flush=True)
sys.stdin.readline()
read_to(sum(len(capture.samples) for capture in captures) / 44100 + 3.0)
print("silent", source.detail, flush=True)
source.close()
np.save(sys.argv[1], np.concatenate([capture.samples for capture in captures]))
"""


@pytest.fixture
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    yield server
    server.close()


def where(part: FloatArray, recorded: FloatArray) -> int | None:
    """At which sample of the recording the part begins; None where it is not in it as it is. Both mono."""
    n = len(part)
    energy = np.cumsum(np.concatenate([[0.0], recorded.astype(np.float64) ** 2]))
    distance = energy[n:] - energy[:-n] - 2.0 * fftconvolve(recorded, part[::-1], "valid")
    at = int(np.argmin(distance))
    # The server's sink holds 16 bits.
    return at if np.max(np.abs(recorded[at : at + n] - part)) < 1e-4 else None


def test_a_sound_server_plays_what_is_analysed(server: SoundServer, tmp_path: Path) -> None:
    """And is paused with it; and when the server dies, the analysis goes on."""
    server.keep_awake()
    raw, analysed = tmp_path / "heard.raw", tmp_path / "analysed.npy"
    form = ["--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--latency-msec=10"]
    with raw.open("wb") as file:
        recorder = subprocess.Popen(["parec", "--device=music.monitor", *form], env=server.environment, stdout=file)
        player = subprocess.Popen(
            [sys.executable, "-c", PLAYER, str(analysed)],
            cwd=ROOT,
            env=server.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert player.stdout is not None
            first = player.stdout.readline()
            time.sleep(0.5)  # what it plays last is under way to the recorder
            server.kill()
            last, _ = player.communicate("\n", timeout=TIMEOUT_S)
        finally:
            for process in (player, recorder):
                process.kill()
                process.wait()
    assert player.returncode == 0
    assert first.startswith("playing Now bright and fast")
    assert "Without sound" not in first
    assert "Without sound: The sound output has gone away." in last

    heard = np.fromfile(raw, dtype=np.float32).reshape(-1, 2)[:, 0]
    played = np.load(analysed)[:, 0]
    # In parts: a busy machine may let the output starve for a moment.
    parts = {start: where(played[start : start + 9000], heard) for start in range(0, 3 * RATE_HZ, 9000)}
    lag_s = {start / RATE_HZ: (at - start) / RATE_HZ for start, at in parts.items() if at is not None}
    assert len(lag_s) >= 0.8 * len(parts), lag_s
    before = [lag for start_s, lag in lag_s.items() if start_s < 1.7]
    after = [lag for start_s, lag in lag_s.items() if start_s > 2.3]
    assert np.median(after) - np.median(before) == pytest.approx(1.0, abs=0.3)
