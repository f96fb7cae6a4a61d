"""The built-in piece: the music itself, the shipped model's predictions for it, and how it is played."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_clock import install_clock, read_all, sound_of
from fake_output import N_LEAD_IN, PIECE_S, FakeOutput
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import LevelMeterSettings
from realtime_mer.demo import source as demo_module
from realtime_mer.demo.instruments import RATE_HZ, samples_in
from realtime_mer.demo.mixing import limited
from realtime_mer.demo.piece import Movement, melody, movements, pitch_of, render
from realtime_mer.demo.source import DemoSource
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.sources import Capture
from realtime_mer.sources import player as player_module
from realtime_mer.sources.grid import STEPS, on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

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


def n_read(captures: list[Capture]) -> int:
    return sum(len(capture.samples) for capture in captures)


def state_of(source: DemoSource) -> SourceState:
    """For mypy, which remembers what an attribute was compared with."""
    return source.state


# --- the music ---


def test_notes_have_their_midi_pitch() -> None:
    assert [pitch_of(name) for name in ("C4", "A4", "F#4", "Bb3", "C-1")] == [60, 69, 66, 58, 0]
    with pytest.raises(ValueError, match="expected a note"):
        pitch_of("H4")


def test_a_melody_lies_in_time_as_it_is_written() -> None:
    notes = melody("C4'/1 -/.5 | E4/1.5", beat_s=0.5)
    assert [(note.pitch, note.start_s, note.length_s) for note in notes] == [(60, 0.0, 0.5), (64, 0.75, 0.75)]
    assert notes[0].level > notes[1].level


def test_the_movements_follow_one_another_and_have_the_four_moods() -> None:
    assert [movement.mood for movement in movements()] == ["bright and fast", "tense", "calm", "sad"]
    assert BRIGHT.start_s == 0.0
    assert all(before.end_s == after.start_s for before, after in pairwise(movements()))
    assert all(14.0 <= movement.end_s - movement.start_s <= 20.0 for movement in movements())


@pytest.mark.slow
def test_the_piece_fits_its_time_is_loud_enough_and_never_clips(rendered: list[FloatArray]) -> None:
    for samples, movement in zip(rendered, movements(), strict=True):
        assert samples.dtype == np.float32
        assert samples.shape == (samples_in(movement.end_s) - samples_in(movement.start_s), 2)
        assert np.max(np.abs(samples)) < 10.0 ** (-1.0 / 20.0)
        levels_db = 10.0 * np.log10(np.mean(samples.astype(np.float64) ** 2, axis=0))
        assert -26.0 < levels_db.mean() < -12.0
        assert abs(levels_db[0] - levels_db[1]) < 1.5, "left and right weigh the same"
        assert float(np.asarray(np.corrcoef(samples.T))[0, 1]) < 0.99, "and differ"
    assert np.max(np.abs(rendered[-1][-samples_in(0.02) :])) < 1e-3, "it breaks off instead of fading out"


@pytest.mark.slow
def test_a_movement_rings_on_into_the_next(rendered: list[FloatArray]) -> None:
    """If a movement were cut off, the sound would jump."""
    for before, after in pairwise(rendered):
        around = np.concatenate([before[-400:], after[:400]])
        steps = np.max(np.abs(np.diff(around, axis=0)), axis=1)
        assert steps[399] < 2.0 * np.max(np.delete(steps, 399))
        assert np.max(np.abs(after[:20])) > 1e-3


@pytest.mark.slow
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


# --- the model's predictions for it ---


@pytest.mark.slow
def test_the_model_separates_the_movements() -> None:
    """Mean valence and arousal of each movement, played in one piece through the real pipeline."""
    source = DemoSource(loop=False, sound=False, fast=True)
    source.start()
    session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
    updates = []
    for capture in read_until(source, lambda _captures: source.state is SourceState.ENDED):
        updates += session.process(capture)
    updates += session.end_segment()
    source.close()
    valence, arousal = {}, {}
    for movement in movements():
        of_it = [u.prediction for u in updates if movement.start_s + SETTLED_S <= u.time_s <= movement.end_s]
        valence[movement] = np.mean([p.valence for p in of_it])
        arousal[movement] = np.mean([p.arousal for p in of_it])
    assert min(arousal[BRIGHT], arousal[TENSE]) > max(arousal[CALM], arousal[SAD]) + 0.15, arousal
    assert valence[BRIGHT] > valence[TENSE] + 0.1, valence
    assert valence[CALM] > valence[SAD] + 0.1, valence


# --- the source, without sound ---


@pytest.mark.slow
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
            seen.append((n_read(captures) / RATE_HZ, source.movement))
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
    assert source.detail == "Now loud: “First”. Without sound."
    source.pause()
    clock.now_s += 100.0
    assert (state_of(source), source.read()) == (SourceState.PAUSED, None)
    source.resume()
    n_before = n_read(captures)
    clock.now_s += 0.2
    captures += read_all(source)
    assert n_read(captures) - n_before == pytest.approx(0.2 * RATE_HZ, abs=500)
    for _ in range(200):
        clock.now_s += 0.01
        captures += read_all(source)
    assert state_of(source) is SourceState.ENDED
    assert source.detail == "Now soft: “Second”. Without sound."
    assert np.array_equal(sound_of(captures), short_piece)
    source.close()


def test_in_a_loop_it_begins_again_without_a_gap(short_piece: FloatArray) -> None:
    source = DemoSource(loop=True, sound=False, fast=True)
    source.start()
    captures = read_until(source, lambda got: n_read(got) >= 3 * len(short_piece))
    assert np.array_equal(sound_of(captures), np.tile(short_piece, (3, 1)))
    assert state_of(source) is SourceState.RUNNING
    source.close()
    assert state_of(source) is SourceState.ENDED
    assert source.read() is None


# --- the source, with an output that the test controls ---


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> FakeOutput:
    return FakeOutput().install(monkeypatch)


def playing(*, loop: bool = False) -> DemoSource:
    """A source that has begun to play."""
    source = DemoSource(loop=loop, sound=True)
    source.start()
    read_until(source, lambda _captures: source._piece is not None)
    return source


@pytest.mark.parametrize("only_rate_hz", [None, 48_000])
def test_what_is_analysed_is_what_the_output_has_taken(
    short_piece: FloatArray, monkeypatch: pytest.MonkeyPatch, only_rate_hz: int | None
) -> None:
    output = FakeOutput(only_rate_hz=only_rate_hz).install(monkeypatch)
    source = playing()
    output.take(N_LEAD_IN)
    captures = read_all(source)
    # A resampler takes something before it gives anything.
    ahead = 0.0 if only_rate_hz is None else 3 * PIECE_S * RATE_HZ
    assert n_read(captures) <= ahead
    for n_writes in (1, 20, 30):
        began_s = time.monotonic()
        output.take(n_writes)
        captures += read_until(source, lambda got, n=n_writes: n_read(got) >= n * PIECE_S * RATE_HZ)  # type: ignore[misc]
        taken = (len(output.taken) - N_LEAD_IN) * PIECE_S * RATE_HZ
        assert n_read(captures) == pytest.approx(taken, abs=ahead)
        assert captures[-1].captured_s is not None
        assert began_s <= captures[-1].captured_s <= time.monotonic()
    assert state_of(source) is SourceState.RUNNING
    output.take_all()
    captures += read_until(source, lambda _captures: source.state is SourceState.ENDED)
    assert np.array_equal(sound_of(captures), short_piece)
    assert source.dropped_blocks == 0
    if only_rate_hz is None:
        assert np.array_equal(output.sound[: len(short_piece)], short_piece)
    source.close()
    assert output.closed


def test_a_pause_stops_the_sound_and_the_analysis(short_piece: FloatArray, output: FakeOutput) -> None:
    source = playing()
    output.take(N_LEAD_IN + 10)
    captures = read_until(source, lambda got: n_read(got) >= 10 * PIECE_S * RATE_HZ)
    source.pause()
    output.take(20)
    before = n_read(captures + read_all(source))
    output.take(20)
    assert read_all(source) == []
    assert before < 13 * PIECE_S * RATE_HZ
    assert not output.taken[-1].any()
    source.resume()
    output.take_all()
    read_until(source, lambda _captures: source.state is SourceState.ENDED)
    source.close()


def test_a_reader_that_comes_much_too_late_is_told_what_it_missed(short_piece: FloatArray, output: FakeOutput) -> None:
    source = playing(loop=True)
    output.take(N_LEAD_IN + 300)
    player = source._player
    assert player is not None
    read_s = time.monotonic() + TIMEOUT_S
    while player.given[0] < 5.99 and time.monotonic() < read_s:
        time.sleep(0.002)
    captures = read_all(source)
    dropped_samples = captures[0].dropped_samples
    assert dropped_samples == source.dropped_blocks * RATE_HZ // 100
    assert dropped_samples + n_read(captures) == round(player.given[0] * RATE_HZ) >= 5.9 * RATE_HZ
    assert n_read(captures) <= 4 * RATE_HZ
    assert [capture.dropped_samples for capture in captures[1:]] == [0] * (len(captures) - 1)
    expected = np.tile(short_piece, (5, 1))[dropped_samples : dropped_samples + n_read(captures)]
    assert np.array_equal(sound_of(captures), expected)
    source.close()


@pytest.mark.parametrize(("loop", "stalls"), [(False, False), (True, True)])
def test_if_the_output_goes_away_the_piece_goes_on(
    short_piece: FloatArray, output: FakeOutput, monkeypatch: pytest.MonkeyPatch, loop: bool, stalls: bool
) -> None:
    source = playing(loop=loop)
    output.take(N_LEAD_IN + 20)
    captures = read_all(source)
    assert source.detail == "Now loud: “First”. With sound."
    if stalls:
        monkeypatch.setattr(player_module, "_STALLED_S", 0.1)
    else:
        output.unplug()
    captures += read_until(source, lambda got: n_read(captures) + n_read(got) >= len(short_piece))
    assert source.detail.startswith("Now soft: “Second”. Without sound: The sound output has gone away")
    if loop:
        captures += read_until(source, lambda got: n_read(got) >= 0.5 * RATE_HZ)
    else:
        assert source.read() is None
        assert state_of(source) is SourceState.ENDED
    heard = sound_of(captures)
    assert np.array_equal(heard, np.resize(short_piece, heard.shape))
    output.unplug()
    source.close()


def test_without_an_output_it_goes_on_silently_and_says_why(
    short_piece: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeOutput(refuses="query").install(monkeypatch)
    source = DemoSource(loop=False, sound=True)
    source.start()
    assert source.detail == "Now loud: “First”. Without sound: There is no sound output."
    captures = read_until(source, lambda _captures: source.state is SourceState.ENDED)
    assert np.array_equal(sound_of(captures), short_piece)
    source.close()


# --- the output, with a real sound server ---

PLAYER = """
import sys, time
import numpy as np
from realtime_mer.demo.source import DemoSource
from realtime_mer.log.libraries import log_what_libraries_print

log_what_libraries_print()
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


@pytest.mark.slow
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
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert player.stdout is not None
            first = player.stdout.readline()
            time.sleep(0.5)  # what it plays last is under way to the recorder
            server.kill()
            last, errors = player.communicate("\n", timeout=TIMEOUT_S)
        finally:
            for process in (player, recorder):
                process.kill()
                process.wait()
    assert (player.returncode, errors) == (0, ""), "PortAudio's own messages go to the log"
    assert re.match("playing Now bright and fast: .* With sound", first)
    assert "Without sound: The sound output has gone away" in last

    heard = np.fromfile(raw, dtype=np.float32).reshape(-1, 2)[:, 0]
    played = np.load(analysed)[:, 0]
    # In parts: a busy machine may let the output starve for a moment.
    parts = {start: where(played[start : start + 9000], heard) for start in range(0, 3 * RATE_HZ, 9000)}
    lag_s = {start / RATE_HZ: (at - start) / RATE_HZ for start, at in parts.items() if at is not None}
    assert len(lag_s) >= 0.8 * len(parts), lag_s
    before = [lag for start_s, lag in lag_s.items() if start_s < 1.7]
    after = [lag for start_s, lag in lag_s.items() if start_s > 2.3]
    assert np.median(after) - np.median(before) == pytest.approx(1.0, abs=0.3)
