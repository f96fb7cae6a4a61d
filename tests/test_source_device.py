"""Sound captured from a real sound server: the music is the same with any rate, channels and blocks; the source can be
paused, and another input chosen."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from osc_sockets import eventually
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import AudioSettings, LevelMeterSettings
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.sources import Capture
from realtime_mer.sources import device as device_module
from realtime_mer.sources.capturing import HEADER, PerhapsOursError, open_stream
from realtime_mer.sources.device import DeviceSource
from realtime_mer.sources.devices import DeviceError, InputDevice, list_inputs, portaudio
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

pytestmark = pytest.mark.slow
_TIMEOUT_S = 40.0
_MUSIC_S = 6.0
# ALSA's order of eight channels; the server remixes any other order.
_POSITIONS = ["front-left", "front-right", "rear-left", "rear-right", "front-center", "lfe", "side-left", "side-right"]


@dataclass(frozen=True)
class Setup:
    """A sound card, how it is opened, and how far the predictions may then be from those of the first setup."""

    rate_hz: int
    n_channels: int
    block_samples: int | None
    tolerance: float
    channels: tuple[int, ...] | None = None
    latency: str | float = "high"

    @property
    def name(self) -> str:
        return f"sink{self.rate_hz}x{self.n_channels}b{self.block_samples}c{'_'.join(map(str, self.channels or ()))}"


# The block size changes nothing at all, the number of channels only what 16 bits round away. Below 32 kHz the treble
# that the model needs is missing.
SETUPS = (
    Setup(44_100, 2, None, 0.0),
    Setup(44_100, 2, 64, 0.0),
    Setup(44_100, 2, 16_384, 0.0),
    Setup(44_100, 1, 441, 0.005),
    # The same two channels, added in the other order.
    Setup(44_100, 8, None, 1e-6, channels=(4, 3), latency=0.05),
    Setup(48_000, 2, None, 0.005),
    Setup(96_000, 2, 4_096, 0.005, latency="low"),
    Setup(16_000, 2, None, 0.1),
    Setup(8_000, 2, 128, 0.1),
)


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    """Used from inside this process."""
    server = start_sound_server()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            patch.setenv(name, server.environment[name])
        restart_portaudio()
        yield server
    server.close()


def restart_portaudio() -> None:
    sounddevice = portaudio()
    sounddevice._terminate()
    sounddevice._initialize()


@pytest.fixture(scope="module")
def captured(
    server: SoundServer, deam_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[Setup, list[Capture]]:
    """What every setup captured of one song, all at once."""
    folder = tmp_path_factory.mktemp("songs")
    mono, rate_hz = soundfile.read(deam_root / "audio_long" / "1009.ogg", dtype="float32", always_2d=True)
    song = mono[: round(_MUSIC_S * rate_hz)] @ np.array([[0.9, 0.5]], dtype=np.float32)
    sources: dict[Setup, DeviceSource] = {}
    for setup in SETUPS:
        write_for(setup, song, rate_hz, folder / f"{setup.name}.wav")
        positions = ",".join(_POSITIONS[: setup.n_channels]) if setup.n_channels > 1 else "mono"
        server.load_sink(setup.name, rate=setup.rate_hz, channels=setup.n_channels, channel_map=positions)
        sources[setup] = DeviceSource(
            AudioSettings(
                device=f"{setup.name}.monitor",
                channels=setup.channels,
                block_samples=setup.block_samples,
                latency=setup.latency,
                # Starting the streams and players takes long on a busy machine, and nothing is read meanwhile.
                buffer_s=40.0,
            )
        )
    captures: dict[Setup, list[Capture]] = {setup: [] for setup in SETUPS}

    def read_until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        over = False
        while not over:
            over = condition()
            for setup, source in sources.items():
                if (capture := source.read()) is not None:
                    captures[setup].append(capture)
            assert time.monotonic() < deadline, "no sound, or no end of it"
            time.sleep(0.01)

    for source in sources.values():
        source.start()
        assert source.state is SourceState.OPENING, "until sound has come"
    # Every sink must be awake when its music begins.
    read_until(lambda: all(captures.values()))
    players = [server.play(folder / f"{setup.name}.wav", setup.name) for setup in SETUPS]
    read_until(lambda: all(player.poll() is not None for player in players))
    assert [player.returncode for player in players] == [0] * len(players), "not everything was played"
    time.sleep(0.5)
    read_until(lambda: True)
    for setup, source in sources.items():
        assert (source.state, source.dropped_blocks, source.overflows) == (SourceState.RUNNING, 0, 0), setup
        source.close()
        assert source.state is SourceState.ENDED
    return captures


def write_for(setup: Setup, song: FloatArray, rate_hz: int, path: Path) -> None:
    """The song as this sink plays it without conversion. The mean of the channels is always the same."""
    # The server swallows the first moment of what it plays.
    after_silence = np.concatenate([np.zeros((rate_hz // 2, 2), dtype=np.float32), song])
    stereo = after_silence if setup.n_channels > 1 else after_silence.mean(axis=1, keepdims=True)
    channels = np.tile(stereo, (1, max(setup.n_channels // 2, 1)))
    soundfile.write(path, soxr.resample(channels, rate_hz, setup.rate_hz), setup.rate_hz, subtype="PCM_16")


def values_of(captures: list[Capture]) -> FloatArray:
    """The predictions of music, shape (n, 2), without those that the end of the music cuts short."""
    session = Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())
    updates = [update for capture in captures for update in session.process(capture)] + session.end_segment()
    values = [(update.prediction.valence, update.prediction.arousal) for update in updates if not update.held]
    n = round((_MUSIC_S - 1.0) / 0.5)
    assert len(values) >= n
    return np.array(values[:n])


@pytest.fixture(scope="module")
def expected(captured: dict[Setup, list[Capture]]) -> FloatArray:
    return values_of(captured[SETUPS[0]])


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_the_predictions_are_the_same_with_every_setup(
    setup: Setup, captured: dict[Setup, list[Capture]], expected: FloatArray
) -> None:
    n_channels = len(setup.channels) if setup.channels else min(setup.n_channels, 2)
    for capture in captured[setup]:
        assert (capture.rate_hz, capture.segment, capture.dropped_samples) == (setup.rate_hz, 0, 0)
        assert capture.samples.dtype == np.float32
        assert len(capture.samples) % (setup.block_samples or setup.rate_hz // 100) == 0
        assert capture.samples.shape[1] == n_channels
        assert capture.captured_s is not None
    differences = np.abs(values_of(captured[setup]) - expected)
    print(setup.name, differences.mean(axis=0).round(4), differences.max(axis=0).round(4))
    assert differences.mean(axis=0).max() <= setup.tolerance
    if setup.channels == (4, 3):
        peaks = {s: np.abs(np.concatenate([c.samples for c in captured[s]])).max(axis=0) for s in (setup, SETUPS[0])}
        assert peaks[SETUPS[0]][0] > 1.5 * peaks[SETUPS[0]][1]
        assert peaks[setup] == pytest.approx(peaks[SETUPS[0]][::-1], abs=1e-3), "the channels in the order given"


class PortAudioError(Exception):
    """As sounddevice raises it: a text and PortAudio's number of the error."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (("Error opening InputStream: Device unavailable", -9985), "is in use by another program, or gone"),
        (("Error opening InputStream: Invalid number of channels", -9998), "cannot give 2 channels; it has 2"),
        (("Error opening InputStream: Invalid sample rate", -9997), "its own rate is 48000 Hz"),
        (("Unanticipated host error", -9999, (2, -13, "Permission denied")), "Join the group audio"),
        (("Error opening InputStream: Internal PortAudio error", -9986), "Internal PortAudio error"),
    ],
)
def test_an_error_of_portaudio_becomes_a_message_with_the_remedy(error: tuple[object, ...], expected: str) -> None:
    def refuse(**_settings: object) -> None:
        raise PortAudioError(*error)

    library = ModuleType("sounddevice")
    library.__dict__.update(PortAudioError=PortAudioError, InputStream=refuse)
    card = InputDevice("Scarlett 2i2 USB: Audio (hw:1,0)", 0, "ALSA", 2, 48_000, False, False)
    with pytest.raises(DeviceError, match=re.escape(expected)) as raised:
        open_stream(library, card, AudioSettings())
    assert str(raised.value).startswith("The input 'Scarlett 2i2 USB: Audio (hw:1,0)' ")


def test_a_late_reader_loses_the_oldest_blocks_and_they_are_counted(server: SoundServer) -> None:
    server.load_sink("asleep")
    source = DeviceSource(AudioSettings(device="asleep.monitor", buffer_s=0.5, block_samples=441))
    source.start()
    captures: list[Capture] = []
    ages_s: list[float] = []
    deadline = time.monotonic() + _TIMEOUT_S
    while sum(len(capture.samples) for capture in captures) < 44_100:
        assert time.monotonic() < deadline
        read_s = time.monotonic()
        if (capture := source.read()) is not None:
            captures.append(capture)
            ages_s.append(read_s - (capture.captured_s or 0.0) + len(capture.samples) / 44_100)
            if len(captures) == 1:
                time.sleep(1.2)
        time.sleep(0.01)
    n_dropped = sum(capture.dropped_samples for capture in captures)
    assert n_dropped == source.dropped_blocks * 441
    assert n_dropped >= 0.5 * 44_100
    late = next(capture for capture in captures if capture.dropped_samples)
    assert len(late.samples) <= 0.5 * 44_100, "the delay must shrink"
    assert max(ages_s[1:]) <= 0.5 + 0.01, "what is older is stale"
    source.close()


# ---- pausing, and choosing another input ----------------------------------------------------------------------------

QUIET, LOUD = 0.25, -0.5


class Listener:
    """Reads a source; keeps all its captures and every state that it was in."""

    def __init__(self, **settings: Any) -> None:
        self.source = DeviceSource(AudioSettings(**settings))
        self.captures: list[Capture] = []
        self.states: set[SourceState] = set()
        self.answers: list[tuple[bool, str]] = []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            over = condition()
            self.states.add(self.source.state)
            if (capture := self.source.read()) is not None:
                self.captures.append(capture)
            elif over:
                return
            assert time.monotonic() < deadline, f"never: {what}; {self.source.state}, {self.source.detail}"
            time.sleep(0.01)

    def until_state(self, state: SourceState) -> None:
        self.until(lambda: self.source.state is state, state)

    def for_s(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        self.until(lambda: time.monotonic() > end_s, "the end of a while")

    def until_sample(self, value: float) -> None:
        """Each sink plays a constant sample; at the beginning and the end of a stream, it may be 0."""
        begun = len(self.captures)
        self.until(
            lambda: any(np.allclose(capture.samples, value, atol=1e-3) for capture in self.captures[begun:]),
            f"a capture of {value}",
        )

    def segments(self) -> list[tuple[int, int]]:
        """Each with its rate."""
        return sorted({(capture.segment, capture.rate_hz) for capture in self.captures})

    def values(self) -> list[set[float]]:
        """The samples of each segment."""

        def of(segment: int) -> set[float]:
            samples = [capture.samples for capture in self.captures if capture.segment == segment]
            return {round(float(value), 3) for value in np.unique(np.concatenate(samples))} - {0.0}

        return [of(segment) for segment, _ in self.segments()]

    def ask_for(self, name: str) -> None:
        self.source.choose(name, lambda done, text: self.answers.append((done, text)))

    def choose(self, name: str) -> tuple[bool, str]:
        before = len(self.answers)
        self.ask_for(name)
        self.until(lambda: len(self.answers) > before, f"an answer for {name}")
        assert len(self.answers) == before + 1
        return self.answers[-1]

    def capturing_process(self) -> subprocess.Popen[bytes]:
        current = self.source._current
        assert current is not None
        return current._process

    def __enter__(self) -> Listener:
        self.source.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        # Closing answers all requests.
        assert self.source.state is SourceState.ENDED
        assert self.source.read() is None
        assert not self.source._keeper.is_alive()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of a constant sample, quiet at 44.1 kHz and loud at 48 kHz, longer than any test."""
    folder = tmp_path_factory.mktemp("tones")
    for name, value, rate_hz in (("quiet", QUIET, 44_100), ("loud", LOUD, 48_000)):
        soundfile.write(folder / f"{name}.wav", np.full((120 * rate_hz, 2), value), rate_hz, subtype="PCM_16")
    return folder


@pytest.fixture
def sinks(server: SoundServer, tones: Path) -> Iterator[dict[str, str]]:
    """The sinks `quiet` and `loud`, which play, each with its module's number."""
    modules = {"quiet": load(server, "quiet"), "loud": load(server, "loud", 48_000)}
    for name in modules:
        server.play(tones / f"{name}.wav", name)
    yield modules
    for module in server.pactl("list", "short", "modules").splitlines():
        number, _, arguments = module.split("\t")[:3]
        if "sink_name=quiet" in arguments or "sink_name=loud" in arguments:
            server.unload(number)


def load(server: SoundServer, name: str, rate_hz: int = 44_100, channels: int = 2) -> str:
    return server.load_sink(name, rate=rate_hz, channels=channels, sink_properties=f"device.description={name}")


@pytest.fixture
def listener(sinks: dict[str, str]) -> Iterator[Listener]:
    """It has read sound of the input `quiet`."""
    with Listener(device="quiet.monitor") as listener:
        listener.until_sample(QUIET)
        listener.states.clear()
        yield listener


def test_a_pause_gives_nothing_and_loses_nothing(sinks: dict[str, str]) -> None:
    """Whether the source is read meanwhile, or not."""
    with Listener(device="quiet.monitor", buffer_s=0.5) as listener:
        listener.until_sample(QUIET)
        source = listener.source
        for segment, read_meanwhile in ((1, True), (2, False)):
            # What has come in and was not read yet is not kept either.
            time.sleep(0.3)
            for _ in range(2):
                source.pause()
                assert (source.state, source.read()) == (SourceState.PAUSED, None)
            before = len(listener.captures)
            if read_meanwhile:
                listener.for_s(1.0)
            else:
                time.sleep(1.0)
            assert (source.state, len(listener.captures)) == (SourceState.PAUSED, before)
            resumed_s = time.monotonic()
            for _ in range(2):
                source.resume()
                assert source.state is SourceState.RUNNING
            listener.until_sample(QUIET)
            after = listener.captures[before:]
            assert {capture.segment for capture in after} == {segment}
            assert after[0].captured_s is not None
            assert after[0].captured_s > resumed_s
            assert sum(len(capture.samples) for capture in after) <= (time.monotonic() - resumed_s + 0.2) * 44_100
        assert source.dropped_blocks == sum(capture.dropped_samples for capture in listener.captures) == 0


def test_a_device_that_is_lost_in_a_pause(server: SoundServer, sinks: dict[str, str], listener: Listener) -> None:
    """It is found again; the last pause or resume counts then."""
    source = listener.source
    source.pause()
    before = len(listener.captures)
    server.unload(sinks["quiet"])
    listener.until_state(SourceState.LOST)
    assert "Waiting for its return." in source.detail
    module = load(server, "quiet")
    listener.until_state(SourceState.PAUSED)
    listener.for_s(0.3)
    assert (len(listener.captures), source.detail) == (before, "")
    server.pactl("suspend-sink", "quiet", "1")
    listener.until_state(SourceState.LOST)
    listener.states.clear()
    listener.for_s(2.0)
    assert listener.states == {SourceState.LOST}, "it can be opened, but gives nothing"
    server.pactl("suspend-sink", "quiet", "0")
    listener.until_state(SourceState.PAUSED)
    source.resume()
    listener.until(lambda: len(listener.captures) > before, "sound after the pause")
    listener.until_state(SourceState.RUNNING)
    source.pause()
    server.unload(module)
    listener.until_state(SourceState.LOST)
    source.resume()
    listener.states.clear()
    listener.for_s(0.3)
    assert listener.states == {SourceState.LOST}
    load(server, "quiet")
    before = len(listener.captures)
    listener.until_state(SourceState.RUNNING)
    assert len(listener.captures) > before
    assert [segment for segment, _ in listener.segments()] == [0, 1, 2]


def test_another_input_is_captured_without_a_gap(
    server: SoundServer, sinks: dict[str, str], listener: Listener
) -> None:
    assert listener.choose("loud.monitor") == (True, "Monitor of loud")
    listener.until_sample(LOUD)
    assert listener.source.name == "Monitor of loud"
    assert listener.states == {SourceState.RUNNING}
    assert listener.segments() == [(0, 44_100), (1, 48_000)]
    assert listener.values() == [{QUIET}, {LOUD}]
    # From now on, the source waits for this one.
    server.unload(sinks["loud"])
    listener.until_state(SourceState.LOST)
    load(server, "loud", 48_000)
    listener.until_state(SourceState.RUNNING)
    assert listener.segments()[-1] == (2, 48_000)
    assert listener.source.dropped_blocks == 0


def test_an_input_that_cannot_be_captured_changes_nothing(server: SoundServer, sinks: dict[str, str]) -> None:
    modules = [load(server, "mono", channels=1), load(server, "suspended")]
    server.pactl("suspend-sink", "suspended", "1")
    with Listener(device="quiet.monitor", channels=(1, 2)) as listener:
        listener.until_sample(QUIET)
        listener.states.clear()
        for name, reason in (
            ("theremin", "No input is called 'theremin', or has that in its name."),
            ("loud\0", "No input is called 'loud\\x00', or has that in its name."),
            ("", "'' could be any of "),
            ("99", "No input has the index 99."),
            ("9" * 201, "No input has a name of more than 200 characters."),
            ("mono.monitor", "The input 'Monitor of mono' cannot give 2 channels; it has 1. "),
            ("suspended.monitor", "The input 'Monitor of suspended' opens, but delivers no data."),
        ):
            done, text = listener.choose(name)
            assert not done
            assert text.startswith(reason)
            assert "\n" not in text
            assert "--device" not in text
        assert listener.choose("quiet.monitor") == (True, "Monitor of quiet"), "which it is already"
        listener.until_sample(QUIET)
        assert (listener.source.name, listener.states) == ("Monitor of quiet", {SourceState.RUNNING})
        assert (listener.segments(), listener.values()) == ([(0, 44_100)], [{QUIET}])
        assert all(capture.dropped_samples == 0 for capture in listener.captures)
    for module in modules:
        server.unload(module)


def test_one_input_is_chosen_at_a_time_and_every_request_is_answered(listener: Listener) -> None:
    listener.ask_for("loud.monitor")
    listener.ask_for("music.monitor")
    assert listener.answers == [(False, "Another input is already being opened.")]
    listener.until(lambda: len(listener.answers) > 1, "the other answer")
    assert listener.answers[1:] == [(True, "Monitor of loud")]
    listener.answers.clear()
    listener.ask_for("quiet.monitor")
    listener.source.close()
    assert [done for done, _ in listener.answers] == [False]
    never_started = Listener()
    for other in (listener, never_started):
        other.answers.clear()
        other.ask_for("default")
        assert other.answers == [(False, "No input is open.")]


def test_while_the_input_is_lost_another_one_can_be_chosen(
    server: SoundServer, sinks: dict[str, str], listener: Listener
) -> None:
    server.unload(sinks["quiet"])
    listener.until_state(SourceState.LOST)
    assert listener.choose("theremin") == (False, "No input is called 'theremin', or has that in its name.")
    listener.source.pause()
    assert listener.choose("loud.monitor") == (True, "Monitor of loud")
    listener.until_state(SourceState.PAUSED)
    listener.source.resume()
    listener.until_sample(LOUD)
    listener.until_state(SourceState.RUNNING)
    assert [rate_hz for _, rate_hz in listener.segments()] == [44_100, 48_000]


@pytest.fixture
def card(server: SoundServer, sinks: dict[str, str]) -> Iterator[str]:
    """A device of ALSA's own, as a sound card is, that exists from now on."""
    settings = Path(server.environment["HOME"]) / ".asoundrc"
    settings.write_text('pcm.card {\n type pulse\n device "loud.monitor"\n hint.description "a card"\n}\n')
    yield "card"
    settings.unlink()
    restart_portaudio()


def refusing(
    name: str, error: DeviceError, patch: pytest.MonkeyPatch, holds: Callable[[], bool] = lambda: True
) -> None:
    """From now on this device cannot be opened while the condition holds."""
    really_open = DeviceSource._open

    def open_or_refuse(source: DeviceSource, wanted: str, again: InputDevice | None = None) -> Any:
        if again is not None and again.name == name and holds():
            raise error
        return really_open(source, wanted, again)

    patch.setattr(DeviceSource, "_open", open_or_refuse)


def test_a_card_that_was_plugged_in_later_can_be_chosen(listener: Listener, request: pytest.FixtureRequest) -> None:
    """PortAudio's list in a running process does not have it. If it does not open, the present input goes on."""
    card = request.getfixturevalue("card")
    assert card not in [device.name for device in list_inputs()]
    with pytest.MonkeyPatch.context() as patch:
        refusing(card, DeviceError("The input 'card' is broken."), patch)
        assert listener.choose(card) == (False, "The input 'card' is broken.")
    listener.until_sample(QUIET)
    assert (listener.source.name, listener.source.state) == ("Monitor of quiet", SourceState.RUNNING)
    assert listener.choose(card) == (True, card)
    listener.until_sample(LOUD)
    assert (listener.source.name, listener.source.state) == (card, SourceState.RUNNING)
    assert listener.values() == [{QUIET}, {LOUD}]
    assert SourceState.LOST not in listener.states


def test_a_card_that_this_program_uses_itself_is_closed_for_another_of_its_names(
    card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener(device=card) as listener:
        listener.until_sample(LOUD)
        open_cards = listener.source
        error = PerhapsOursError("It is in use.")
        refusing("Monitor of quiet", error, monkeypatch, lambda: open_cards._current is not None)
        assert listener.choose("quiet.monitor") == (True, "Monitor of quiet")
        listener.until_sample(QUIET)
        # The present input is the sound server's, not a card: closing it does not help.
        refusing(card, error, monkeypatch)
        listener.states.clear()
        assert listener.choose(card) == (False, "It is in use.")
        listener.until_sample(QUIET)
        assert listener.states == {SourceState.RUNNING}
        assert [segment for segment, _ in listener.segments()] == [0, 1]


def test_a_sound_system_that_cannot_list_its_inputs_changes_nothing(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    done, text = listener.choose("loud.monitor")
    assert (done, text) == (False, "The inputs cannot be listed. The sound system's library crashed.")
    monkeypatch.setattr(device_module, "_REPLY_TIMEOUT_S", 0.0)
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))
    done, text = listener.choose("loud.monitor")
    assert (done, text) == (False, "The inputs cannot be listed. The sound system does not answer. Restart it.")
    listener.until_sample(QUIET)
    assert listener.segments() == [(0, 44_100)]


def program(folder: Path, commands: str) -> str:
    """In place of Python; runs these commands of the shell, whatever its arguments."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
    return str(path)


# ---- PortAudio hangs, crashes, or gives another device --------------------------------------------------------------


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL])
def test_a_sound_library_that_hangs_or_crashes_is_a_device_lost_and_found(
    listener: Listener, fault: signal.Signals
) -> None:
    process = listener.capturing_process()
    process.send_signal(fault)
    listener.until_state(SourceState.LOST)
    listener.until_state(SourceState.RUNNING)
    listener.until(lambda: listener.segments()[-1] == (1, 44_100), "a second segment")
    listener.until_sample(QUIET)
    assert process.returncode is not None, "the stuck process is killed"
    assert listener.values() == [{QUIET}, {QUIET}]
    last = listener.capturing_process()
    listener.source.close()
    assert last.returncode is not None


KILLED = """
import os, time
from realtime_mer.config import AudioSettings
from realtime_mer.sources.device import DeviceSource
source = DeviceSource(AudioSettings(device="quiet.monitor"))
source.start()
while source.read() is None:
    time.sleep(0.01)
print(source._current._process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_program_leaves_no_process_behind(server: SoundServer, sinks: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        stat = Path(f"/proc/{int(parent.stdout.readline())}/stat")
        assert is_running(stat)
        # From now on the capturing process has nothing to write, so no write can fail.
        server.pactl("suspend-sink", "quiet", "1")
        time.sleep(0.3)
        parent.kill()
    eventually(lambda: not is_running(stat))


def is_running(stat: Path) -> bool:
    """A zombie is not."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_sound_library_that_hangs_while_it_opens(
    server: SoundServer, sinks: dict[str, str], listener: Listener, tmp_path: Path
) -> None:
    """The present input's loss is reported meanwhile; when the library works again, so does everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_module, "_REPLY_TIMEOUT_S", 3.0)
        patch.setattr(device_module, "_SOURCE_CHECK_S", 0.2)
        patch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))
        listener.ask_for("loud.monitor")
        server.unload(sinks["quiet"])
        listener.until_state(SourceState.LOST)
        assert listener.answers == [], "it is still being opened"
        listener.until(lambda: bool(listener.answers), "the answer")
    assert not listener.answers[0][0]
    assert listener.source.state is SourceState.LOST
    load(server, "quiet")
    listener.until_state(SourceState.RUNNING)
    assert listener.choose("loud.monitor") == (True, "Monitor of loud")
    listener.until_sample(LOUD)


_OPEN = '{"device": {"name": "x", "index": 0, "host_api": "x", "n_channels": 1, "rate_hz": 100, "is_default": true, \
"hears_playback": false}, "rate_hz": 100, "n_columns": 1, "block_samples": 1, "latency_s": 0.1}'


def talking_program(folder: Path, answer: str, then: bytes = b"") -> str:
    """Sends this answer to any request, and goes on running."""
    (folder / "answer").write_bytes(answer.encode() + b"\n" + then)
    return program(folder, f"read request\ncat {folder}/answer\nexec sleep 60")


@pytest.mark.parametrize("answer", ["7", "null", '{"device": {}}', _OPEN.replace("100", "0"), "[" * 100_000])
def test_a_capturing_process_that_sends_nonsense_counts_as_crashed(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", talking_program(tmp_path, answer))
    source = DeviceSource(AudioSettings())
    with pytest.raises(DeviceError, match="The sound system's library crashed"):
        source.start()
    source.close()


def test_a_capturing_process_that_sends_nonsense_once_it_is_open_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header of more samples than can be counted."""
    answer = _OPEN.replace('"block_samples": 1', f'"block_samples": {2**62}')
    monkeypatch.setattr(sys, "executable", talking_program(tmp_path, answer, HEADER.pack(0.0, 1, 0, 0)))
    with Listener() as listener:
        listener.until(lambda: "closed this input" in listener.source.detail, "the loss")


def test_a_process_that_looks_for_a_device_is_replaced_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look leaves something behind in it."""
    answer = '{"error": "It is not there.", "perhaps_ours": false}'
    commands = f"echo $$ >> {tmp_path}/started\nwhile read request; do echo '{answer}'; done"
    monkeypatch.setattr(sys, "executable", program(tmp_path, commands))
    monkeypatch.setattr(device_module, "_MOST_REQUESTS", 3)
    source = DeviceSource(AudioSettings())
    for _ in range(7):
        with pytest.raises(DeviceError, match="It is not there"):
            source._request_reply({"list": True})
    started = (tmp_path / "started").read_text().split()
    assert len(started) == 3
    last = source._spare
    assert last is not None
    assert str(last._process.pid) == started[-1]
    source._end_spare()
    assert last._process.returncode is not None


def test_a_device_that_is_replaced_by_another_of_its_name(
    server: SoundServer, sinks: dict[str, str], listener: Listener
) -> None:
    """It has another rate and other channels."""
    server.unload(sinks["quiet"])
    load(server, "quiet", 48_000, channels=1)
    listener.until(lambda: len(listener.segments()) == 2, "a second segment")
    listener.until_state(SourceState.RUNNING)
    assert listener.segments() == [(0, 44_100), (1, 48_000)]
    assert {capture.samples.shape[1] for capture in listener.captures if capture.segment == 1} == {1}
