"""Sound captured from a real sound server: whatever the rate, the channels and the blocks, the music is the same."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import soxr
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.checkpoint import default_checkpoint_path, load_checkpoint
from realtime_mer.config import AudioSettings, LevelMeterSettings
from realtime_mer.devices import DeviceError, InputDevice, portaudio
from realtime_mer.session import Session
from realtime_mer.sources import Capture
from realtime_mer.sources.device import DeviceSource, open_stream
from realtime_mer.status import SourceState, Update
from realtime_mer.types import FloatArray

_TIMEOUT_S = 40.0
_MUSIC_S = 11.0
# ALSA's order of eight channels; of any other, the server makes this one.
_POSITIONS = ["front-left", "front-right", "rear-left", "rear-right", "front-center", "lfe", "side-left", "side-right"]


@dataclass(frozen=True)
class Setup:
    """A sound card, how it is opened, and how far the predictions may then lie from those of the first setup."""

    rate_hz: int
    n_channels: int
    block_samples: int | None
    tolerance: float
    channels: tuple[int, ...] | None = None
    latency: str | float = "high"

    @property
    def name(self) -> str:
        return f"sink{self.rate_hz}x{self.n_channels}b{self.block_samples}c{'_'.join(map(str, self.channels or ()))}"


# How sound is cut into blocks changes nothing at all, and how it is spread over channels only what 16 bits round away.
# Below 32 kHz the treble that the model knows music by is missing.
SETUPS = (
    Setup(44_100, 2, None, 0.0),
    Setup(44_100, 2, 64, 0.0),
    Setup(44_100, 2, 16_384, 0.0),
    Setup(44_100, 1, 441, 0.005),
    Setup(44_100, 8, 1_024, 0.0, channels=(1, 2, 3, 4, 5, 6, 7, 8)),
    # The same two channels, added in the other order.
    Setup(44_100, 8, None, 1e-6, channels=(4, 3), latency=0.05),
    Setup(48_000, 2, None, 0.005),
    Setup(96_000, 2, 4_096, 0.005, latency="low"),
    Setup(16_000, 2, None, 0.1),
    Setup(8_000, 2, 128, 0.1),
)


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    """Heard from inside this process."""
    server = start_sound_server()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            patch.setenv(name, server.environment[name])
        sounddevice = portaudio()
        sounddevice._terminate()
        sounddevice._initialize()
        yield server
    server.close()


@pytest.fixture(scope="module")
def captured(
    server: SoundServer, deam_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[Setup, list[Capture]]:
    """What every setup heard of one song, all of them at once."""
    folder = tmp_path_factory.mktemp("songs")
    mono, rate_hz = soundfile.read(deam_root / "audio_long" / "1009.ogg", dtype="float32", always_2d=True)
    song = mono[: round(_MUSIC_S * rate_hz)] @ np.array([[0.9, 0.5]], dtype=np.float32)
    sources: dict[Setup, DeviceSource] = {}
    for setup in SETUPS:
        write_for(setup, song, rate_hz, folder / f"{setup.name}.wav")
        positions = ",".join(_POSITIONS[: setup.n_channels]) if setup.n_channels > 1 else "mono"
        server.load_sink(setup.name, rate=setup.rate_hz, channels=setup.n_channels, channel_map=positions)
        settings = AudioSettings(
            device=f"{setup.name}.monitor",
            channels=setup.channels,
            block_samples=setup.block_samples,
            latency=setup.latency,
            # Starting ten streams and ten players takes long on a busy machine, and nobody reads meanwhile.
            buffer_s=40.0,
        )
        sources[setup] = DeviceSource(settings)
    heard: dict[Setup, list[Capture]] = {setup: [] for setup in SETUPS}
    for source in sources.values():
        source.start()
        assert source.state is SourceState.OPENING, "until sound has come"
    # Every sink must be awake when its music begins.
    read_until(sources, heard, lambda: all(heard.values()))
    players = [server.play(folder / f"{setup.name}.wav", setup.name) for setup in SETUPS]
    read_until(sources, heard, lambda: all(player.poll() is not None for player in players))
    assert [player.returncode for player in players] == [0] * len(players), "not everything was played"
    time.sleep(0.5)
    read_until(sources, heard, lambda: True)
    for setup, source in sources.items():
        assert (source.state, source.dropped_blocks, source.overflows) == (SourceState.RUNNING, 0, 0), setup
        source.close()
        assert source.state is SourceState.ENDED
    return heard


def write_for(setup: Setup, song: FloatArray, rate_hz: int, path: Path) -> None:
    """The song as this sink plays it without converting anything, whatever the channels: their mean is the same."""
    # The server swallows the first moment of what it plays.
    after_silence = np.concatenate([np.zeros((rate_hz // 2, 2), dtype=np.float32), song])
    stereo = after_silence if setup.n_channels > 1 else after_silence.mean(axis=1, keepdims=True)
    channels = np.tile(stereo, (1, max(setup.n_channels // 2, 1)))
    soundfile.write(path, soxr.resample(channels, rate_hz, setup.rate_hz), setup.rate_hz, subtype="PCM_16")


def read_until(sources: dict[Setup, DeviceSource], heard: dict[Setup, list[Capture]], condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        over = condition()
        for setup, source in sources.items():
            capture = source.read()
            if capture is not None:
                heard[setup].append(capture)
        if over:
            return
        assert time.monotonic() < deadline, "no sound, or no end of it"
        time.sleep(0.01)


def music_of(captures: list[Capture]) -> list[Update]:
    """The predictions of music."""
    session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
    updates = [update for capture in captures for update in session.hear(capture)]
    return [update for update in updates + session.end_segment() if not update.held]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_every_capture_is_what_was_asked_for(setup: Setup, captured: dict[Setup, list[Capture]]) -> None:
    block_samples = setup.block_samples or setup.rate_hz // 100
    for capture in captured[setup]:
        assert (capture.rate_hz, capture.segment, capture.dropped_samples) == (setup.rate_hz, 0, 0)
        assert capture.samples.dtype == np.float32
        assert len(capture.samples) % block_samples == 0
        expected_channels = len(setup.channels) if setup.channels else min(setup.n_channels, 2)
        assert capture.samples.shape[1] == expected_channels
        assert capture.captured_s is not None
    heard = np.concatenate([capture.samples for capture in captured[setup]])
    assert len(heard) >= _MUSIC_S * setup.rate_hz
    if setup.channels == (4, 3):
        reference = np.concatenate([capture.samples for capture in captured[SETUPS[0]]])
        right_first = np.abs(reference).max(axis=0)[::-1]
        assert right_first[1] > 1.5 * right_first[0]
        assert np.abs(heard).max(axis=0) == pytest.approx(right_first, abs=1e-3), "the channels in the order given"


@pytest.mark.parametrize("setup", SETUPS[1:], ids=lambda setup: setup.name)
def test_the_predictions_are_the_same(setup: Setup, captured: dict[Setup, list[Capture]]) -> None:
    expected, updates = music_of(captured[SETUPS[0]]), music_of(captured[setup])
    # The frames that are not cut short by the music's end, or the capture's.
    n = round((_MUSIC_S - 1.0) / 0.5)
    assert min(len(expected), len(updates)) >= n
    differences = np.array(
        [
            [update.valence - other.valence, update.arousal - other.arousal]
            for update, other in zip(updates[:n], expected[:n], strict=True)
        ]
    )
    print(setup.name, np.abs(differences).mean(axis=0).round(4), np.abs(differences).max(axis=0).round(4))
    assert np.abs(differences).mean(axis=0).max() <= setup.tolerance


def test_a_device_that_is_not_there_stays_unopened(server: SoundServer) -> None:
    source = DeviceSource(AudioSettings(device="theremin"))
    with pytest.raises(DeviceError, match="No input is called 'theremin'"):
        source.start()
    source.close()
    assert source.read() is None


class PortAudioError(Exception):
    """As sounddevice raises it: what went wrong, and PortAudio's number for it."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PortAudioError("Error opening InputStream: Device unavailable", -9985),
            "is in use by another program, or gone",
        ),
        (PortAudioError("Error opening InputStream: Invalid number of channels", -9998), "has no 2 channels; it has 2"),
        (PortAudioError("Error opening InputStream: Invalid sample rate", -9997), "its own rate is 48000 Hz"),
        (PortAudioError("Unanticipated host error", -9999, (2, -13, "Permission denied")), "Join the group audio"),
        (PortAudioError("Error opening InputStream: Internal PortAudio error", -9986), "Internal PortAudio error"),
    ],
)
def test_why_a_device_cannot_be_opened_is_one_sentence_with_the_cure(error: PortAudioError, sentence: str) -> None:
    def refuse(**_settings: object) -> None:
        raise error

    library = ModuleType("sounddevice")
    library.__dict__.update(PortAudioError=PortAudioError, InputStream=refuse)
    card = InputDevice("Scarlett 2i2 USB: Audio (hw:1,0)", 0, "ALSA", 2, 48_000, False, False)
    with pytest.raises(DeviceError, match=re.escape(sentence)) as raised:
        open_stream(library, card, AudioSettings(), 0)
    assert str(raised.value).startswith("The input 'Scarlett 2i2 USB: Audio (hw:1,0)' ")


def test_a_reader_that_sleeps_loses_the_oldest_blocks_and_is_told(server: SoundServer) -> None:
    server.load_sink("asleep")
    source = DeviceSource(AudioSettings(device="asleep.monitor", buffer_s=0.5, block_samples=441))
    source.start()
    captures: list[Capture] = []
    deadline = time.monotonic() + _TIMEOUT_S
    while sum(len(capture.samples) for capture in captures) < 44_100:
        assert time.monotonic() < deadline
        capture = source.read()
        if capture is not None:
            captures.append(capture)
        time.sleep(1.2 if len(captures) == 1 else 0.01)
    n_dropped = sum(capture.dropped_samples for capture in captures)
    assert n_dropped == source.dropped_blocks * 441
    assert n_dropped >= 0.5 * 44_100
    late = next(capture for capture in captures if capture.dropped_samples)
    assert len(late.samples) <= 0.5 * 44_100, "the delay must shrink"
    source.close()
