"""Raw PCM through real pipes: every bit of it, and the errors for input that is no PCM."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest
import soundfile
from fake_clock import sound_of
from hypothesis import given
from hypothesis import strategies as st
from recordings import wait_until

from realtime_mer.config import PCM_FORMATS
from realtime_mer.sources import Capture, Source, SourceError
from realtime_mer.sources.pcm import PcmSource
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 8_000


Piped = Iterator[tuple[PcmSource, BinaryIO]]


@contextlib.contextmanager
def pipe(pcm_format: str = "s16le", n_channels: int = 1, rate_hz: int = RATE_HZ) -> Piped:
    """A source that is not started yet, and the end of its pipe to write into."""
    reading, writing = os.pipe()
    with open(reading, "rb") as out, open(writing, "wb", buffering=0) as into:  # noqa: PTH123
        yield PcmSource(out, pcm_format, rate_hz, n_channels), into


@contextlib.contextmanager
def started(pcm_format: str = "s16le", n_channels: int = 1, rate_hz: int = RATE_HZ) -> Piped:
    with pipe(pcm_format, n_channels, rate_hz) as (source, into):
        source.start()
        yield source, into


def read(source: Source, until_samples: int | None = None) -> list[Capture]:
    """All captures until the end, or until there are so many samples."""
    captures: list[Capture] = []
    give_up_s = time.monotonic() + 30.0
    while source.state != SourceState.ENDED and time.monotonic() < give_up_s:
        capture = source.read()
        if capture is None:
            time.sleep(0.001)
        else:
            captures.append(capture)
        if until_samples is not None and sum(len(c.samples) for c in captures) >= until_samples:
            return captures
    assert source.state == SourceState.ENDED, "nothing more came"
    return captures


def played(content: bytes, pcm_format: str, n_channels: int) -> FloatArray:
    """The sound that a source reads from a pipe with these bytes."""
    with started(pcm_format, n_channels) as (source, into):
        writer = threading.Thread(target=lambda: (into.write(content), into.close()))
        writer.start()
        captures = read(source)
        writer.join(10.0)
    return sound_of(captures)


def wait_for_bytes(source: PcmSource, n_bytes: int) -> None:
    """Until its thread has taken so many from the pipe."""
    wait_until(lambda: source._queued_bytes >= n_bytes)


def integers_as_bytes(values: list[int], n_bytes: int) -> bytes:
    return b"".join(value.to_bytes(n_bytes, "little", signed=True) for value in values)


# ---- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pcm_format", "n_bytes"), [("s16le", 2), ("s24le", 3), ("s32le", 4)])
@pytest.mark.parametrize("n_channels", [1, 2, 8])
def test_integers_become_fractions_of_full_scale(pcm_format: str, n_bytes: int, n_channels: int) -> None:
    full = 2 ** (8 * n_bytes - 1)
    # The lowest and highest, and of 32 bits those that 24 bits hold.
    step = 2 ** max(8 * n_bytes - 24, 0)
    random = np.random.default_rng(n_bytes).integers(-full // step, full // step, 8_000)
    values = [-full, full - step, 0, step, -step, 255 * step, -256 * step, 128 * step, *(random * step).tolist()]
    sound = played(integers_as_bytes(values, n_bytes), pcm_format, n_channels)
    expected = np.array([value / full for value in values]).reshape(-1, n_channels)
    np.testing.assert_array_equal(sound, expected.astype(np.float32), strict=True)


def test_32_bits_are_rounded_to_24() -> None:
    sound = played(integers_as_bytes([2**31 - 1, 2**31 - 128, 127, 129, -129, 2**8], 4), "s32le", 1)
    assert (sound[:, 0] * 2.0**23).tolist() == [2**23 - 1, 2**23 - 1, 0, 1, -1, 1]


def test_floats_are_clipped_and_replaced() -> None:
    values = np.array([0.5, -0.25, 1.5, -1.5, np.nan, np.inf, 2.0**-23, 0.0], dtype="<f4")
    with started("f32le", 2) as (source, into):
        into.write(values.tobytes())
        into.close()
        sound = sound_of(read(source))
    top = 1.0 - 2.0**-23
    assert sound.tolist() == [[0.5, -0.25], [top, -1.0], [0.0, 0.0], [2.0**-23, 0.0]]
    assert source.replaced_samples == 2


@pytest.mark.parametrize("pcm_format", PCM_FORMATS)
def test_pcm_from_ffmpeg(deam_root: Path, pcm_format: str) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed")
    song = deam_root / "golden" / "829.wav"
    expected, rate_hz = soundfile.read(song, dtype="float32", always_2d=True)
    command = [ffmpeg, "-v", "error", "-i", str(song), "-f", pcm_format, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        source = PcmSource(process.stdout, pcm_format, rate_hz, expected.shape[1])  # type: ignore[arg-type]
        source.start()
        captures = read(source)
    np.testing.assert_array_equal(sound_of(captures), expected, strict=True)
    assert max(len(capture.samples) for capture in captures) <= rate_hz // 2 + 1


# ---- pieces -----------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    pcm_format=st.sampled_from(PCM_FORMATS),
    n_channels=st.integers(1, 8),
)
def test_any_pieces_make_the_same_frames(sizes: list[int], pcm_format: str, n_channels: int) -> None:
    content = np.random.default_rng(sum(sizes)).integers(1, 255, sum(sizes), dtype=np.uint8).tobytes()
    frame_bytes = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}[pcm_format] * n_channels
    n_frames = len(content) // frame_bytes
    with started(pcm_format, n_channels) as (source, into):
        captures: list[Capture] = []
        position = 0
        for size in sizes:
            into.write(content[position : position + size])
            position += size
            if position >= 4:
                # Every frame that has come is given at once, however little it is.
                captures += read(source, position // frame_bytes - sum(len(c.samples) for c in captures))
        into.close()
        captures += read(source)
    sound = np.concatenate([c.samples for c in captures] or [np.empty((0, n_channels), dtype=np.float32)])
    assert sound.shape == (n_frames, n_channels)
    if n_frames:
        np.testing.assert_array_equal(sound, played(content[: n_frames * frame_bytes], pcm_format, n_channels))
    left_out = len(content) - n_frames * frame_bytes
    assert (f"its last {left_out} B were left out" in source.detail) == (left_out > 0)


def test_a_frame_may_be_longer_than_the_first_piece() -> None:
    """Both pieces and the end are there before the first read."""
    with started("s32le", 8, 1) as (source, into):
        into.write(bytes([1]))
        wait_for_bytes(source, 1)
        into.write(bytes(32))
        wait_for_bytes(source, 33)
        into.close()
        time.sleep(0.05)
        assert sound_of(read(source)).shape == (1, 8)
    assert "its last 1 B were left out" in source.detail


def test_sound_is_given_at_once_with_its_time() -> None:
    with pipe(n_channels=2) as (source, into):
        assert (source.name, source.state) == ("standard input", SourceState.OPENING)
        assert source.read() is None, "before its start"
        source.start()
        assert source.read() is None
        before_s = time.monotonic()
        into.write(integers_as_bytes([1, 2, 3, 4], 2))
        (capture,) = read(source, 2)
        assert capture.captured_s is not None
        assert before_s <= capture.captured_s <= time.monotonic()
        assert (capture.rate_hz, capture.segment, capture.dropped_samples) == (RATE_HZ, 0, 0)
        assert (source.state, source.detail) == (SourceState.RUNNING, "")
        assert (source.overflows, source.dropped_blocks) == (0, 0)
        into.close()
        assert read(source) == []
        assert (source.read(), source.detail) == (None, "")
        source.close()


def test_a_fast_writer_waits_and_nothing_is_lost() -> None:
    content = np.random.default_rng(1).integers(-30_000, 30_000, 20 * RATE_HZ).astype("<i2").tobytes()
    most_bytes = 2 * 2 * RATE_HZ + 2**16
    written = 0
    with started() as (source, into):
        os.set_blocking(into.fileno(), False)

        def write() -> None:
            nonlocal written
            written += into.write(content[written : written + 1_000]) or 0

        # The source takes two seconds, the pipe as much as it holds, and then no more.
        give_up_s = time.monotonic() + 30.0
        while written < most_bytes - 2**15 and time.monotonic() < give_up_s:
            write()
        assert written >= most_bytes - 2**15
        for _ in range(50):
            write()
            time.sleep(0.001)
        assert written <= most_bytes
        captures = []
        while written < len(content):
            write()
            captures += [capture for capture in [source.read()] if capture is not None]
        into.close()
        captures += read(source)
    expected = np.frombuffer(content, dtype="<i2").astype(np.float32)[:, np.newaxis] / 2**15
    np.testing.assert_array_equal(sound_of(captures), expected)
    assert max(len(capture.samples) for capture in captures) <= RATE_HZ // 2


def test_a_pipe_that_does_not_block_is_read_too() -> None:
    with pipe() as (source, into):
        assert source._stream is not None
        os.set_blocking(source._stream.fileno(), False)
        source.start()
        time.sleep(0.01)
        into.write(bytes(10))
        assert sound_of(read(source, 5)).shape == (5, 1)
        into.close()
        read(source)


# ---- the end ----------------------------------------------------------------------------------------------------


def test_no_sound_at_all_is_an_end_too() -> None:
    with started() as (source, into):
        into.close()
        assert read(source) == []
        assert source.detail == "Standard input ended without any sound."


def test_close_does_not_wait_for_a_silent_pipe() -> None:
    """Nor does the end of the process."""
    code = (
        "import sys, time; from realtime_mer.sources.pcm import PcmSource\n"
        "source = PcmSource(sys.stdin.buffer, 's16le', 8000, 2); source.start(); time.sleep(0.1)\n"
        "assert source.read() is None; source.close(); source.close(); assert source.read() is None\n"
        "print(source.state, flush=True)"
    )
    command = [sys.executable, "-c", code]
    with pipe() as (source, _into):
        run = subprocess.run(
            command, cwd=ROOT, stdin=source._stream, capture_output=True, text=True, timeout=60, check=False
        )
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "ended", "")


def test_a_close_ends_the_thread_that_waits_for_room() -> None:
    with pipe(rate_hz=100) as (source, into):
        before = set(threading.enumerate())
        source.start()
        (thread,) = set(threading.enumerate()) - before
        into.write(bytes(10_000))
        wait_for_bytes(source, 400)
        source.close()
        thread.join(10.0)
        assert not thread.is_alive()


class Descriptor:
    """A stream of which only the file descriptor is used."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def source_of(stream: object) -> PcmSource:
    return PcmSource(cast(BinaryIO, stream), "s16le", RATE_HZ, 2)


def test_a_read_error_is_reported(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        source = source_of(Descriptor(directory))
        source.start()
        with pytest.raises(SourceError, match=r"^Standard input broke off: Is a directory\.$"):
            read(source)
        assert (source.state, source.read()) == (SourceState.ENDED, None)
    finally:
        os.close(directory)


# ---- input that is no sound ------------------------------------------------------------------------------------


def test_a_terminal_is_refused() -> None:
    master, slave = os.openpty()
    try:
        with pytest.raises(SourceError, match=r"is a terminal, not a pipe.*ffmpeg") as raised:
            source_of(Descriptor(slave)).start()
        assert "realtime-mer --input -" in str(raised.value)
    finally:
        os.close(master)
        os.close(slave)


def test_a_closed_standard_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as closed:
        unused = os.dup(closed.fileno())
    os.close(unused)
    for stream in (None, closed, Descriptor(unused), BytesIO()):
        with pytest.raises(SourceError, match=r"^Standard input is closed\. .*ffmpeg"):
            source_of(stream).start()


@pytest.mark.parametrize("file_name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_a_file_with_a_header_is_not_played_as_noise(tmp_path: Path, file_name: str) -> None:
    soundfile.write(tmp_path / file_name, np.zeros((4_000, 2)), 44_100)
    content = (tmp_path / file_name).read_bytes()
    if file_name == "a.mp3":
        # With the tag that most of them begin with.
        content = b"ID3\x04\0\0\0\0\0\0" + content
    format_name = {"a.aiff": "AIFF", "a.ogg": "Ogg"}.get(file_name, file_name[2:].upper())
    with started(n_channels=2) as (source, into):
        # The first byte alone is not enough.
        into.write(content[:1])
        assert source.read() is None
        into.write(content[1:5_000])
        with pytest.raises(SourceError, match=f"expected raw PCM, got the {format_name} format.*ffmpeg"):
            read(source)
        assert (source.state, source.read()) == (SourceState.ENDED, None)
