"""Files as sources: their captures, the timing, and the errors of files that cannot be played."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_clock import FakeClock, install_clock, read_all, sound_of
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.sources import Source, SourceError
from realtime_mer.sources.file import FileSource
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.reading import read_blocks
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

RATE_HZ = 8_000


def noise(n_samples: int, n_channels: int = 2) -> FloatArray:
    """Samples on the 24-bit grid."""
    values = np.random.default_rng(0).integers(-(2**23), 2**23, (n_samples, n_channels))
    return (values / 2**23).astype(np.float32)


def write(path: Path, samples: FloatArray, rate_hz: int = RATE_HZ) -> Path:
    """As 32-bit floats, which keep the samples as they are."""
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return path


def started(path: Path, *, loop: bool = False, fast: bool = True) -> FileSource:
    source = FileSource(path, loop=loop, fast=fast)
    source.start()
    return source


def state_of(source: Source) -> SourceState:
    """As mypy cannot know that it changes."""
    return source.state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return install_clock(monkeypatch)


# ---- as fast as possible ----------------------------------------------------------------------------------------


def test_a_fast_file_comes_in_half_seconds_and_ends(tmp_path: Path) -> None:
    samples = noise(2 * RATE_HZ + 100)
    source = FileSource(write(tmp_path / "a.wav", samples), loop=False, fast=True)
    assert (source.name, source.state, source.detail) == ("a.wav", SourceState.OPENING, "")
    assert source.read() is None, "before its start"
    source.start()
    assert state_of(source) == SourceState.RUNNING
    source.pause()
    assert source.read() is None
    source.resume()
    captures = read_all(source)
    assert [len(capture.samples) for capture in captures] == [4_000] * 4 + [100]
    np.testing.assert_array_equal(sound_of(captures), samples, strict=True)
    facts = {(c.rate_hz, c.segment, c.dropped_samples, c.captured_s) for c in captures}
    assert facts == {(RATE_HZ, 0, 0, None)}
    assert state_of(source) == SourceState.ENDED
    assert (source.overflows, source.dropped_blocks, source.replaced_samples) == (0, 0, 0)
    source.close()
    source.close()


@pytest.mark.parametrize("file_name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_every_format_gives_its_samples_on_the_grid(deam_root: Path, tmp_path: Path, file_name: str) -> None:
    samples, rate_hz = soundfile.read(deam_root / "golden" / "829.wav", frames=60_000, always_2d=True)
    soundfile.write(tmp_path / file_name, samples, rate_hz)
    expected = np.concatenate([block.samples for block in read_blocks(tmp_path / file_name)])
    sound = sound_of(read_all(started(tmp_path / file_name)))
    np.testing.assert_array_equal(sound, on_grid(expected)[0], strict=True)


def test_samples_that_are_not_finite_are_replaced_and_counted(tmp_path: Path) -> None:
    samples = noise(RATE_HZ, 1)
    samples[[10, 7_000]] = np.nan
    samples[20] = 3.0
    source = started(write(tmp_path / "a.wav", samples))
    sound = sound_of(read_all(source))
    assert source.replaced_samples == 2
    assert sound[[10, 7_000], 0].tolist() == [0.0, 0.0]
    assert sound[20, 0] == 1.0 - 2.0**-23, "clipped, as a converter does it"


def test_a_loop_begins_again_without_a_gap(tmp_path: Path) -> None:
    samples = noise(5_001)
    source = started(write(tmp_path / "a.wav", samples), loop=True)
    captures = [capture for capture in (source.read() for _ in range(9)) if capture is not None]
    sound = sound_of(captures)
    assert len(captures) == 9
    np.testing.assert_array_equal(sound, np.tile(samples, (5, 1))[: len(sound)])
    assert {capture.segment for capture in captures} == {0}
    assert state_of(source) == SourceState.RUNNING
    source.close()
    assert (source.read(), source.state) == (None, SourceState.ENDED)


# ---- in real time -----------------------------------------------------------------------------------------------


@given(
    steps_s=st.lists(st.floats(0.0, 0.375), min_size=1, max_size=30), rate_hz=st.sampled_from([1_000, 8_000, 44_100])
)
def test_in_real_time_it_gives_the_sound_that_is_due(
    tmp_path_factory: pytest.TempPathFactory, steps_s: list[float], rate_hz: int
) -> None:
    samples = noise(max(2 * rate_hz, 3), 1)
    path = write(tmp_path_factory.mktemp("due") / "a.wav", samples, rate_hz)
    with pytest.MonkeyPatch.context() as patch:
        clock = install_clock(patch)
        source = started(path, fast=False)
        start_s, given_samples = clock.now_s, 0
        for step_s in steps_s:
            clock.now_s += step_s
            for capture in read_all(source):
                np.testing.assert_array_equal(
                    capture.samples, samples[given_samples : given_samples + len(capture.samples)]
                )
                given_samples += len(capture.samples)
                assert capture.captured_s is not None
                assert capture.captured_s == pytest.approx(start_s + given_samples / rate_hz, abs=1e-6)
                assert capture.captured_s <= clock.now_s + 1e-6
            due_samples = min((clock.now_s - start_s) * rate_hz, len(samples))
            # Less than 10 ms of sound waits for more, and a sample may lie on the edge.
            assert due_samples - max(0.01 * rate_hz, 1.0) - 1.0 <= given_samples <= due_samples + 1e-3
        assert (state_of(source) == SourceState.ENDED) == (given_samples == len(samples))
        source.close()


def test_less_than_a_block_waits(tmp_path: Path, clock: FakeClock) -> None:
    source = started(write(tmp_path / "a.wav", noise(RATE_HZ)), fast=False)
    clock.now_s += 1 / 128
    assert source.read() is None
    clock.now_s += 1 / 128
    assert [len(capture.samples) for capture in read_all(source)] == [RATE_HZ // 64]


def test_a_stall_moves_the_schedule_and_no_sound_piles_up(tmp_path: Path, clock: FakeClock) -> None:
    samples = noise(20 * RATE_HZ)
    source = started(write(tmp_path / "a.wav", samples), fast=False)
    clock.now_s += 0.25
    before = read_all(source)
    clock.now_s += 3600.0
    after_stall = read_all(source)
    assert len(sound_of(before)) == 2_000
    assert len(sound_of(after_stall)) == RATE_HZ // 2
    assert after_stall[-1].captured_s == pytest.approx(clock.now_s), "due now, not an hour ago"
    clock.now_s += 0.25
    again = read_all(source)
    assert len(sound_of(again)) == RATE_HZ // 4
    np.testing.assert_array_equal(sound_of(before + after_stall + again), samples[: 2_000 + 4_000 + 2_000])


def test_a_pause_takes_no_sound_away(tmp_path: Path, clock: FakeClock) -> None:
    samples = noise(4 * RATE_HZ)
    source = started(write(tmp_path / "a.wav", samples), fast=False)
    clock.now_s += 0.25
    captures = read_all(source)
    clock.now_s += 0.125
    in_another_thread(source.pause)
    assert state_of(source) == SourceState.PAUSED
    clock.now_s += 50.0
    source.pause()
    clock.now_s += 50.0
    assert source.read() is None
    in_another_thread(source.resume)
    source.resume()
    assert state_of(source) == SourceState.RUNNING
    captures += read_all(source)
    clock.now_s += 0.125
    captures += read_all(source)
    # Before the pause 0.375 s were due, of which it had given 0.25, and 0.125 s after it.
    np.testing.assert_array_equal(sound_of(captures), samples[: RATE_HZ // 2])
    assert captures[-1].captured_s == pytest.approx(clock.now_s)


def test_a_pause_before_the_start_holds_it_at_its_beginning(tmp_path: Path, clock: FakeClock) -> None:
    source = FileSource(write(tmp_path / "a.wav", noise(RATE_HZ)), loop=False, fast=False)
    source.pause()
    clock.now_s += 5.0
    source.start()
    clock.now_s += 5.0
    assert (source.state, source.read()) == (SourceState.PAUSED, None)
    source.resume()
    clock.now_s += 0.125
    assert len(sound_of(read_all(source))) == RATE_HZ // 8


def in_another_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()


# ---- errors ---------------------------------------------------------------------------------------------------------


def check_failure(path: Path, message: str, *, loop: bool = False) -> None:
    source = FileSource(path, loop=loop, fast=True)

    def play() -> None:
        source.start()
        read_all(source)

    with pytest.raises(SourceError) as raised:
        play()
    assert message in str(raised.value)
    assert path.name in str(raised.value)
    assert state_of(source) == SourceState.ENDED


def test_a_file_that_cannot_be_played_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"All work and no play makes Jack a dull boy. " * 100)
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "missing.wav", ": there is no such file."),
        (tmp_path / "a.mp3", " cannot be read as audio: "),
        (tmp_path, " is not a regular file."),
        # It must not wait for the pipe.
        (tmp_path / "pipe", "raw PCM"),
        (tmp_path / ("a" * 300), "cannot be played"),
        (write(tmp_path / "9.wav", noise(100, 9)), "has 9 channels; 8 are the most"),
    ):
        check_failure(path, message)
    for loop in (False, True):
        check_failure(write(tmp_path / "empty.wav", noise(0)), " holds no sound.", loop=loop)
    assert sound_of(read_all(started(write(tmp_path / "8.wav", noise(100, 8))))).shape == (100, 8)


def test_a_web_address_is_named_as_one() -> None:
    with pytest.raises(SourceError, match=r"^https://example\.org/a\.wav is a web address\."):
        FileSource(Path("https://example.org/a.wav"), loop=False, fast=True).start()


def test_a_file_that_is_cut_off_first_gives_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(40_000), RATE_HZ, subtype="PCM_24")
    path.write_bytes(path.read_bytes()[:120_000])
    source = started(path)
    assert source.read() is not None
    with pytest.raises(SourceError, match="cannot be read as audio"):
        read_all(source)
    assert (source.state, source.read()) == (SourceState.ENDED, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ((16_000, 2, 100), "it had 2 channels at 8000 Hz, and now 2 channels at 16000 Hz"),
        ((8_000, 1, 100), "it had 2 channels at 8000 Hz, and now 1 channel at 8000 Hz"),
        ((8_000, 2, 0), "holds no sound"),
        (None, "cannot be read as audio"),
    ],
)
def test_a_loop_notices_another_file(tmp_path: Path, changed: tuple[int, int, int] | None, message: str) -> None:
    path = write(tmp_path / "a.wav", noise(100))
    source = started(path, loop=True)
    assert source.read() is not None
    path.unlink()
    if changed is not None:
        rate_hz, n_channels, n_samples = changed
        write(path, noise(n_samples, n_channels), rate_hz)
    with pytest.raises(SourceError, match=message):
        source.read()
