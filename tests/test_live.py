"""The real command on a real sound server: music played, captured, predicted, sent; devices lost and found again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music
from live_runs import LiveRun, Received, oscdump, without_display
from osc_sockets import free_port
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer import wiring
from realtime_mer.cli import main
from realtime_mer.live.session import predict_file
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path

pytestmark = pytest.mark.slow
# The same sound, in frames that begin up to 10 ms apart (where the entrance of music was found), through a sound server
# that plays 16 bits.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    server.keep_awake()
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[SoundServer]:
    """A server that the test may kill."""
    server = start_sound_server()
    yield server
    server.close()


def wait_for_silence(received: Received) -> None:
    """The program captures, and nothing is being played."""
    received.wait_for(lambda got: "silence" in got.texts("/mer/status/input"), "silence")


def wait_for_source(received: Received, state: str) -> None:
    received.wait_for(lambda got: got.texts("/mer/status/source")[-1:] == [state], state)


def wait_for_frames(received: Received, n: int) -> None:
    expected = len(received.numbers("/mer/frame")) + n
    received.wait_for(lambda got: len(got.numbers("/mer/frame")) >= expected, f"{n} more predictions")


def test_live_music_is_predicted_like_its_file(server: SoundServer, deam_root: Path, tmp_path: Path) -> None:
    song, rate_hz = soundfile.read(deam_root / "audio_long" / "1009.ogg", frames=441_000)
    soundfile.write(path := tmp_path / "song.wav", song, rate_hz, subtype="PCM_16")
    port = free_port()
    # Loading SciPy on a busy machine can take longer than sound may wait by default, and none may be dropped here.
    (tmp_path / "roomy.toml").write_text("[audio]\nbuffer_s = 60\n")
    arguments = ["--config", str(tmp_path / "roomy.toml"), "--device", "default", "--osc", f"127.0.0.1:{port}"]
    with oscdump(port) as received, LiveRun(*arguments, environment=without_display(server.environment)) as run:
        wait_for_silence(received)
        assert server.play(path).wait(timeout=60) == 0
        received.wait_for(lambda got: got.numbers("/mer/held")[-1:] == [1.0], "silence after the music")
        code, lines, errors = run.end()
    assert code == 0, errors
    assert "realtime-mer: no window: There is no display" in errors
    frames, times_s = received.numbers("/mer/frame"), np.array(received.numbers("/mer/time"))
    assert frames == list(range(len(frames))), "every prediction must arrive, once, in order"
    assert len(lines.splitlines()) >= len(frames)
    assert received.texts("/mer/status/source")[-1] == "ended"
    assert set(received.texts("/mer/status/source")) <= {"opening", "running", "ended"}
    assert set(received.numbers("/mer/status/drops") + received.numbers("/mer/status/losses")) == {0.0}
    assert {"music", "silence"} <= set(received.texts("/mer/status/input"))
    pairs = np.array([[float(value) for value in pair] for pair in received.messages["/mer/va"]])
    assert np.array_equal(pairs.T, [received.numbers("/mer/valence"), received.numbers("/mer/arousal")])

    predicted = predict_file(path, load_checkpoint(default_checkpoint_path()))
    expected_s = np.array([prediction.time_s for prediction in predicted])
    sounding = np.array(received.numbers("/mer/held")) == 0.0
    in_song_s = times_s - (times_s[sounding][0] - 1.0)
    whole = sounding & (in_song_s >= expected_s[0]) & (in_song_s <= expected_s[-1])
    assert whole.sum() >= len(predicted) - 2
    for column, name in enumerate(("valence", "arousal")):
        expected = np.interp(in_song_s[whole], expected_s, [getattr(prediction, name) for prediction in predicted])
        assert np.abs(pairs[whole, column] - expected).mean() <= TOLERANCE
        assert np.ptp(expected) > 2 * TOLERANCE, "a constant prediction would pass"


def test_the_sound_server_is_killed_and_restarted(own_server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tune.wav", music(60.0, n_channels=2), 44_100)
    port = free_port()
    recording = tmp_path / "recording"
    arguments = ("--no-plot", "--osc", f"127.0.0.1:{port}", "--record", str(recording))
    with oscdump(port) as received, LiveRun(*arguments, environment=own_server.environment) as run:
        own_server.play(tmp_path / "tune.wav")
        received.wait_for(lambda got: 0.0 in got.numbers("/mer/held"), "a prediction of music")
        own_server.kill()
        wait_for_source(received, "lost")
        before = len(received.numbers("/mer/frame"))
        # As long as three predictions of a source that runs.
        time.sleep(1.5)
        assert run.process.poll() is None
        assert len(received.numbers("/mer/frame")) <= before + 2, "no sound, no predictions"
        own_server.start(rate_hz=48_000)
        own_server.play(tmp_path / "tune.wav")
        wait_for_source(received, "running")
        wait_for_frames(received, 4)
        # As when a terminal closes: more than one signal.
        run.process.send_signal(signal.SIGHUP)
        code, _, errors = run.end(signal.SIGTERM)
    assert code == 0, errors
    assert "Traceback" not in errors
    frames = received.numbers("/mer/frame")
    assert frames == list(range(len(frames)))
    assert np.all(np.diff(received.numbers("/mer/time")) > 0.0)
    assert received.numbers("/mer/status/losses")[-1] == 1.0
    rates = [soundfile.info(path).samplerate for path in sorted(recording.glob("*.flac"))]
    assert rates == [44_100, 48_000], "each segment at its device's own rate"
    assert main(["replay", str(recording), "--fast", "--no-plot", "--no-osc"]) == 0, "predictions differ"


def test_each_loss_of_a_device_is_reported_once_and_its_return_too(own_server: SoundServer) -> None:
    """A source chosen by name: without that, the server would switch to another one."""
    module = own_server.load_sink("stage")
    port = free_port()
    arguments = ("--device", "stage.monitor", "--no-plot", "--osc", f"127.0.0.1:{port}")
    with oscdump(port) as received, LiveRun(*arguments, environment=own_server.environment) as run:

        def lose_and_return(lose: Callable[[], object], wait_s: float, give_back: Callable[[], object]) -> float:
            lose()
            wait_for_source(received, "lost")
            time.sleep(wait_s)
            give_back()
            wait_for_source(received, "running")
            wait_for_frames(received, 2)
            return received.numbers("/mer/status/losses")[-1]

        wait_for_silence(received)
        assert lose_and_return(lambda: own_server.unload(module), 0.0, lambda: own_server.load_sink("stage")) == 1.0
        # A suspended source opens but delivers no sound: the attempts, one each 1.5 s, must not count as losses.
        suspend = [lambda on=on: own_server.pactl("suspend-sink", "stage", on) for on in "10"]
        assert lose_and_return(suspend[0], 3.5, suspend[1]) == 2.0
        # The server hangs.
        pid = own_server.pid()
        subprocess.run(["kill", "-STOP", pid], check=True)
        try:
            wait_for_source(received, "lost")
            code, _, errors = run.end()
        finally:
            subprocess.run(["kill", "-CONT", pid], check=True)
    assert code == 0, errors
    assert received.numbers("/mer/status/losses")[-1] == 3.0


def use_sound_system(folder: str, patch: pytest.MonkeyPatch) -> None:
    """For runs in this process, which must keep its priority."""
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        patch.setenv(name, folder)
    patch.setattr(wiring, "raise_priority", lambda: None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--device", "theremin"], "No input is called 'theremin'"),
        (["--device", "default", "--channels", "40"], "cannot give 40 channels"),
        (["--device", "music.monitor", "--channels", "3-4"], "cannot give 4 channels; it has 2"),
        (["--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["--input", "missing.wav"], "missing.wav"),
        (["replay", "missing"], "missing"),
    ],
)
def test_an_input_that_cannot_be_opened_is_an_error(
    arguments: list[str],
    reason: str,
    server: SoundServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use_sound_system(server.environment["HOME"], monkeypatch)
    assert main([*arguments, "--no-plot", "--no-osc"]) == 1
    output, errors = capfd.readouterr()
    assert output == ""
    # PortAudio's library may print something of its own before.
    assert reason in errors.partition("realtime-mer: error: ")[2]


def test_without_a_sound_system_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cards = Path("/proc/asound/cards")
    if cards.is_file() and "no soundcards" not in cards.read_text():
        pytest.skip("a sound card on this machine: there is always an input")
    use_sound_system(str(tmp_path), monkeypatch)
    assert main(["--no-plot", "--no-osc"]) == 1
    assert "no sound input" in capfd.readouterr().err
