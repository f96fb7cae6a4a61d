"""The command itself on a real sound server: music played, heard, predicted, received; devices lost and found."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music
from live_runs import LiveRun, Received, oscdump, without_display
from osc_sockets import free_port
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.live.session import predict_file
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path

# The same sound, in frames that begin up to 10 ms apart (where the entrance of music was found), through a sound server
# that plays 16 bits.
pytestmark = pytest.mark.slow
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    server.keep_awake()
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[SoundServer]:
    """One that may be killed."""
    server = start_sound_server()
    yield server
    server.close()


def listening(received: Received) -> bool:
    return "silence" in received.texts("/mer/status/input")


@pytest.mark.parametrize("song", ["1009", "1071"])
def test_music_heard_live_is_predicted_as_its_file_is(
    song: str, server: SoundServer, deam_root: Path, tmp_path: Path
) -> None:
    path = deam_root / "audio_long" / f"{song}.ogg"
    port = free_port()
    # Loading SciPy on a busy machine can take longer than sound may wait by default, and none may be dropped here.
    (tmp_path / "roomy.toml").write_text("[audio]\nbuffer_s = 60\n")
    arguments = ["--config", str(tmp_path / "roomy.toml"), "--device", "default", "--no-plot"]
    with (
        oscdump(port) as received,
        LiveRun(*arguments, "--osc", f"127.0.0.1:{port}", environment=server.environment) as run,
    ):
        received.wait_for(listening, "silence, before the music")
        player = server.play(path)
        assert player.wait(timeout=60) == 0
        received.wait_for(lambda heard: heard.numbers("/mer/held")[-1:] == [1.0], "silence, after the music")
        code, lines, errors = run.end()
    assert code == 0, errors
    frames, times_s = received.numbers("/mer/frame"), np.array(received.numbers("/mer/time"))
    assert frames == list(range(len(frames))), "every prediction must arrive, once, in order"
    assert received.texts("/mer/status/source")[-1] == "ended"
    assert set(received.numbers("/mer/status/drops")) == {0.0}
    assert set(received.numbers("/mer/status/losses")) == {0.0}
    assert set(received.texts("/mer/status/source")) <= {"opening", "running", "ended"}
    assert {"music", "silence"} <= set(received.texts("/mer/status/input"))
    pairs = np.array([[float(value) for value in pair] for pair in received.messages["/mer/va"]])
    assert np.array_equal(pairs[:, 0], received.numbers("/mer/valence"))
    assert np.array_equal(pairs[:, 1], received.numbers("/mer/arousal"))
    assert len(lines.splitlines()) >= len(frames)

    sounding = np.array(received.numbers("/mer/held")) == 0.0
    song_starts_s = times_s[sounding][0] - 1.0
    predicted = predict_file(path, load_checkpoint(default_checkpoint_path()))
    expected_s = np.array([prediction.time_s for prediction in predicted])
    heard_s = times_s - song_starts_s
    whole = sounding & (heard_s >= expected_s[0]) & (heard_s <= expected_s[-1])
    assert whole.sum() >= len(predicted) - 2
    for column, values in enumerate(
        (
            [prediction.valence for prediction in predicted],
            [prediction.arousal for prediction in predicted],
        )
    ):
        expected = np.interp(heard_s[whole], expected_s, values)
        assert np.abs(pairs[whole, column] - expected).mean() <= TOLERANCE
        assert np.ptp(expected) > 2 * TOLERANCE, "a prediction that stands still would pass"


def test_the_sound_server_killed_and_started_again_in_mid_run(own_server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tune.wav", music(60.0, n_channels=2), 44_100)
    port = free_port()
    recording = tmp_path / "recording"
    with (
        oscdump(port) as received,
        LiveRun(
            *("--no-plot", "--osc", f"127.0.0.1:{port}", "--record", str(recording)), environment=own_server.environment
        ) as run,
    ):
        own_server.play(tmp_path / "tune.wav")
        received.wait_for(lambda heard: 0.0 in heard.numbers("/mer/held"), "a prediction of music")
        own_server.kill()
        received.wait_for(lambda heard: "lost" in heard.texts("/mer/status/source"), "the loss")
        before = len(received.numbers("/mer/frame"))
        time.sleep(2.0)
        assert run.process.poll() is None
        assert len(received.numbers("/mer/frame")) <= before + 2, "predictions of what?"
        own_server.start(rate_hz=48_000)
        own_server.play(tmp_path / "tune.wav")
        received.wait_for(
            lambda heard: (
                heard.texts("/mer/status/source")[-1] == "running" and len(heard.numbers("/mer/frame")) >= before + 6
            ),
            "predictions after the return",
        )
        # As when a terminal closes: more than one signal.
        run.process.send_signal(signal.SIGHUP)
        code, _, errors = run.end(signal.SIGTERM)
    assert code == 0, errors
    assert "Traceback" not in errors
    frames, times_s = received.numbers("/mer/frame"), received.numbers("/mer/time")
    assert frames == list(range(len(frames)))
    assert np.all(np.diff(times_s) > 0.0)
    assert received.numbers("/mer/status/losses")[-1] == 1.0
    segments = sorted(recording.glob("*.flac"))
    assert [soundfile.info(path).samplerate for path in segments] == [44_100, 48_000], "each at its device's own rate"
    replayed = subprocess.run(
        [*LiveRun.command("replay", str(recording), "--fast", "--no-plot", "--no-osc")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stderr
    assert "identical" in replayed.stderr


def test_a_sound_server_that_hangs_is_noticed_and_keeps_nobody_from_ending(own_server: SoundServer) -> None:
    own_server.keep_awake()
    port = free_port()
    with (
        oscdump(port) as received,
        LiveRun("--no-plot", "--osc", f"127.0.0.1:{port}", environment=own_server.environment) as run,
    ):
        received.wait_for(listening, "silence")
        pid = own_server.pid()
        subprocess.run(["kill", "-STOP", pid], check=True)
        try:
            received.wait_for(lambda heard: "lost" in heard.texts("/mer/status/source"), "the loss")
            code, _, errors = run.end()
        finally:
            subprocess.run(["kill", "-CONT", pid], check=True)
    assert code == 0, errors


def test_a_sink_unplugged_and_plugged_in_again(own_server: SoundServer) -> None:
    """A source chosen by name: the server would go on with another one, which nobody asked for."""
    module = own_server.load_sink("stage")
    port = free_port()
    with (
        oscdump(port) as received,
        LiveRun(
            *("--device", "stage.monitor", "--no-plot", "--osc", f"127.0.0.1:{port}"),
            environment=own_server.environment,
        ) as run,
    ):
        received.wait_for(listening, "silence")
        own_server.unload(module)
        received.wait_for(lambda heard: "lost" in heard.texts("/mer/status/source"), "the loss")
        own_server.load_sink("stage")
        received.wait_for(lambda heard: heard.texts("/mer/status/source")[-1] == "running", "the return")
        before = len(received.numbers("/mer/frame"))
        received.wait_for(lambda heard: len(heard.numbers("/mer/frame")) > before + 1, "predictions after the return")
        code, _, errors = run.end()
    assert code == 0, errors
    assert received.numbers("/mer/status/losses")[-1] == 1.0


def test_a_source_that_falls_asleep_is_lost_once_and_comes_back(own_server: SoundServer) -> None:
    """It can be opened, but gives no sound: every further attempt must not count as another loss."""
    own_server.load_sink("stage")
    port = free_port()
    with (
        oscdump(port) as received,
        LiveRun(
            *("--device", "stage.monitor", "--no-plot", "--osc", f"127.0.0.1:{port}"),
            environment=own_server.environment,
        ) as run,
    ):
        received.wait_for(listening, "silence")
        own_server.pactl("suspend-sink", "stage", "1")
        received.wait_for(lambda heard: "lost" in heard.texts("/mer/status/source"), "the loss")
        time.sleep(6.0)
        own_server.pactl("suspend-sink", "stage", "0")
        received.wait_for(lambda heard: heard.texts("/mer/status/source")[-1] == "running", "the return")
        code, _, errors = run.end()
    assert code == 0, errors
    assert received.numbers("/mer/status/losses")[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--device", "theremin"], "No input is called 'theremin'"),
        (["--device", "99"], "No input has the index 99"),
        (["--device", "default", "--host-api", "CoreAudio"], "No input belongs to a host API called 'CoreAudio'"),
        (["--device", "default", "--channels", "40"], "cannot give 40 channels"),
        (["--device", "music.monitor", "--channels", "3-4"], "cannot give 4 channels; it has 2"),
        (["--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["--input", "missing.wav"], "missing.wav"),
        (["replay", "missing"], "missing"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_sentence(arguments: list[str], reason: str, server: SoundServer) -> None:
    with LiveRun(*arguments, "--no-plot", "--no-osc", environment=server.environment) as run:
        code, lines, errors = run.wait()
    assert (code, lines) == (1, ""), errors
    # PortAudio's library may say something of its own before.
    assert reason in errors.partition("realtime-mer: error: ")[2]
    assert "Traceback" not in errors


def test_without_any_sound_system(tmp_path_factory: pytest.TempPathFactory, server: SoundServer) -> None:
    nowhere = {**server.environment, "XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("nowhere"))}
    if _has_sound_card():
        pytest.skip("a sound card on this machine: there is always an input")
    with LiveRun("--no-plot", environment=nowhere) as run:
        code, _, errors = run.wait()
    assert code == 1
    assert "no sound input" in errors
    assert "Traceback" not in errors


def _has_sound_card() -> bool:
    cards = Path("/proc/asound/cards")
    return cards.is_file() and "no soundcards" not in cards.read_text()


def test_without_a_display_the_terminal_view_says_so(server: SoundServer) -> None:
    with LiveRun("--no-osc", environment=without_display(server.environment)) as run:
        first_line = run.first_line()
        code, _, errors = run.end()
    assert code == 0
    assert first_line
    assert "realtime-mer: no window: There is no display" in errors
