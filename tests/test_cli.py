"""The command: its arguments and exit codes; a user's mistake never shows a traceback."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from checkpoints import music

from realtime_mer import __version__, wiring
from realtime_mer.batch import command as predict
from realtime_mer.cli import main
from realtime_mer.config import (
    AudioSettings,
    ConfigError,
    ControlSettings,
    DisplaySettings,
    InputSettings,
    LevelMeterSettings,
    LiveSettings,
    LogSettings,
    ModelSettings,
    OscSettings,
    RecordingSettings,
    TargetSettings,
    load_settings,
)
from realtime_mer.endings import EXIT_CODES
from realtime_mer.errors import CheckpointError, OutputError, RealtimeMerError, UsageError
from realtime_mer.features.engine import FeatureEngineError
from realtime_mer.log import LogError
from realtime_mer.osc import OscError
from realtime_mer.recording import RecordingError
from realtime_mer.sources import SourceError
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.workers import default_jobs

ROOT = Path(__file__).resolve().parents[1]
FAILURES = (
    *(AudioFileError, CheckpointError, FeatureEngineError, LogError, OscError),
    *(OutputError, RealtimeMerError, RecordingError, SourceError),
)


def exit_code(*arguments: str) -> int:
    """Of `main`, whether it returns or argparse exits."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"realtime-mer {__version__}\n"
    for command in ([], ["predict"], ["view"], ["osc-monitor"], ["doctor"], ["demo"], ["replay"], ["devices"]):
        assert exit_code(*command, "--help") == 0
        assert f"usage: {' '.join(['realtime-mer', *command])} " in capsys.readouterr().out


def settings_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> LiveSettings:
    """The settings of the live run that these arguments start."""
    given: list[LiveSettings] = []
    monkeypatch.setattr(wiring, "listen", given.append)
    monkeypatch.setattr(wiring, "demo", lambda settings, **_: given.append(settings))
    assert exit_code(*arguments) == 0
    return given[0]


def test_every_option_of_a_live_run_reaches_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = (
        "--device USB --host-api ALSA --channels 2,5-6 --rate 48000 --block-size 256 --latency 0.05 --input - --loop "
        "--fast --pcm-format f32le --pcm-rate 96000 --pcm-channels 6 --osc a:1 --osc b:2 --osc-delay 0.5 "
        "--osc-query 9010 --control 0.0.0.0:9001 --no-plot --no-terminal --record new --silence-db -50 --quiet-db -40 "
        "--log-file night.log --log-level debug "
        "--checkpoint mine.safetensors --mode stage --theme light --screen 2 --trail 45 --keep-running"
    )
    monkeypatch.chdir(tmp_path)
    assert settings_of(monkeypatch, *given.split()) == LiveSettings(
        AudioSettings("USB", "ALSA", (2, 5, 6), 48_000, 256, 0.05),
        InputSettings("-", True, True, "f32le", 96_000, 6),
        LevelMeterSettings(-50.0, -40.0),
        osc=OscSettings((TargetSettings("a", 1), TargetSettings("b", 2)), 0.5, "9010"),
        control=ControlSettings("0.0.0.0:9001"),
        display=DisplaySettings(False, False, "stage", "light", 2, 45.0, True),
        recording=RecordingSettings("new"),
        log=LogSettings("night.log", "debug"),
        model=ModelSettings(checkpoint="mine.safetensors"),
    )
    settings = settings_of(monkeypatch, "demo", "--model", "open", "--prediction-rate", "20")
    assert settings.model == ModelSettings("open", None, 20.0)


def test_the_command_line_overrides_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings_of(monkeypatch) == LiveSettings()
    file = tmp_path / "my.toml"
    file.write_text('[audio]\ndevice = "USB"\nlatency = "low"\n[osc]\ntargets = ["a:1"]\n')
    settings = settings_of(monkeypatch, "demo", "--config", str(file), "--no-osc")
    assert (settings.audio.device, settings.audio.latency, settings.osc.targets) == ("USB", "low", ())
    settings = settings_of(monkeypatch, "--config", str(file), "--device", "Jack")
    assert (settings.audio.device, settings.osc.targets) == ("Jack", (TargetSettings("a", 1),))


def test_targets_and_profiles_keep_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[osc]\ntargets = ["a:1"]\n')
    desk, stage = tmp_path / "desk.toml", tmp_path / "stage.toml"
    desk.write_text("port = 7700\nrate_hz = 50")
    stage.write_text('host = "stage"\nport = 8000')
    given = ["--config", str(file), "--osc-profile", str(desk), "--osc", "10.0.0.5:9000", "--osc", f"{stage}@[::1]:1"]
    assert settings_of(monkeypatch, *given).osc.targets == (
        TargetSettings(port=7700, rate_hz=50.0),
        TargetSettings("10.0.0.5"),
        TargetSettings("::1", 1),
    )
    given = ["--osc-profile", f"{stage}@b:2", "--osc-profile", f"{stage}@c", "--osc", f"{stage}@"]
    assert settings_of(monkeypatch, *given).osc.targets == (
        TargetSettings("b", 2),
        TargetSettings("c", 8000),
        TargetSettings("stage", 8000),
    )
    # A profile that comes with the program.
    assert settings_of(monkeypatch, "--osc-profile", "qlcplus").osc.targets[0].map


@pytest.mark.parametrize("command", [[], ["demo"], ["replay", "nowhere"], ["doctor"]])
def test_print_config_only_prints_the_settings(
    command: list[str], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert exit_code(*command, "--print-config", "--osc", "desk:1", "--record", "Aufführung") == 0
    (tmp_path / "printed.toml").write_bytes(capsysbinary.readouterr().out)
    assert load_settings(tmp_path / "printed.toml", {}) == LiveSettings(
        osc=OscSettings((TargetSettings("desk", 1),)), recording=RecordingSettings("Aufführung")
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["predict"], "FILE"),
        (["predict", "a.wav", "--format", "xml"], "invalid choice: 'xml'"),
        *((["predict", "a.wav", "--jobs", text], f"of at least 1, got '{text}'") for text in ("0", "many")),
        (["predict", "a.wav", "--bogus"], "there is no option --bogus"),
        (["improvise"], "improvise"),
        (["--channels", "0"], "expected channels such as 1,2 or 3-4, counted from 1, got '0'"),
        (["--channels", "2-1"], "got '2-1'"),
        (["--channels", "1-99999999999"], "got '1-99999999999'"),
        (["--rate", "-1"], "audio.rate_hz: expected "),
        (["--osc", "a:1", "--osc", "b:0"], "osc.targets[2]: expected [PROFILE@]HOST:PORT"),
        (["--osc", "nowhere@a:1"], "osc.targets[1]: there is no OSC profile 'nowhere'. There are: "),
        (["--osc-profile", "nowhere.toml"], "osc.targets[1]: nowhere.toml: the settings cannot be read: "),
        *((["osc-monitor", text], f"expected a port from 1 to 65535, got '{text}'") for text in ("0", "osc")),
        *((["osc-monitor", "--seconds", text], f"more than 0, got '{text}'") for text in ("0", "nan")),
        (["osc-monitor", "--tcp", "--multicast", "239.1.2.3"], "not allowed with argument --tcp"),
        (["view", "a", "--at", "-1"], "argument --at: expected a number of seconds, got '-1'"),
        (["view", "a", "--size", "big"], "argument --size: expected a size such as 1920x1080, got 'big'"),
        (["--loop"], "--loop and --fast need --input"),
        (["--input", "-", "--loop"], "--loop and --fast need a file"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--model", "other"], "invalid choice: 'other'"),
        (["--model", "open", "--checkpoint", "a"], "model.name: expected either the name of a model or a checkpoint"),
        (["--model", "open", "--prediction-rate", "5"], "model.rate_hz: expected one of 2, 4, 10, 20, got 5.0."),
        (["predict", "a.wav", "--rate", "10"], "model.rate_hz: expected 2 for the default model"),
    ],
)
def test_wrong_arguments(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    assert reason in capsys.readouterr().err


def test_the_arguments_of_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def record(inputs: Any, **options: Any) -> int:
        calls.append((inputs, options))
        return len(calls) - 1

    monkeypatch.setattr(predict, "run_predict", record)
    assert exit_code("predict", "a.wav", "b") == 0
    given = "predict a.wav --output o --format json --checkpoint c --rate 4 --plot --jobs 3"
    assert exit_code(*given.split()) == 1  # the result of run_predict
    keys = ("output", "table_format", "model", "plot", "jobs")
    defaults = (None, "csv", ModelSettings(), False, default_jobs())
    assert calls[0] == ([Path("a.wav"), Path("b")], dict(zip(keys, defaults, strict=True)))
    changed = (Path("o"), "json", ModelSettings(checkpoint="c", rate_hz=4.0), True, 3)
    assert calls[1] == ([Path("a.wav")], dict(zip(keys, changed, strict=True)))


def test_the_arguments_of_osc_monitor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[Any, ...]] = []

    def run(*given: Any, **options: Any) -> None:
        calls.append((*given, options))
        # Ctrl-C is its normal end.
        raise KeyboardInterrupt

    monkeypatch.setattr("realtime_mer.osc_monitor.command.run", run)
    assert exit_code("osc-monitor", "--tcp") == 0
    given = "osc-monitor 7700 --host ::1 --multicast ff02::1 --plain --seconds 2.5"
    assert exit_code(*given.split()) == 0
    assert calls == [
        ("127.0.0.1", 9000, {"multicast": None, "tcp": True, "plain": False, "seconds": None}),
        ("::1", 7700, {"multicast": "ff02::1", "tcp": False, "plain": True, "seconds": 2.5}),
    ]
    assert capsys.readouterr().err == ""


def raising(error: BaseException) -> Callable[..., int]:
    def run(*_arguments: Any, **_options: Any) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        *((kind("Give a folder."), 2, "error: Give a folder.") for kind in (UsageError, ConfigError)),
        *((kind("No sound."), 1, "error: No sound.") for kind in FAILURES),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_how_failures_end(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(predict, "run_predict", raising(error))
    assert exit_code("predict", "a.wav") == code
    assert capsys.readouterr().err == f"realtime-mer: {message}\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "run_predict", raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(["predict", "a.wav"])


def test_a_file_that_is_not_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").write_text("no model")
    assert exit_code("predict", "a.wav", "--checkpoint", str(tmp_path / "model")) == 1
    assert f"error: The checkpoint {tmp_path / 'model'} cannot be " in capsys.readouterr().err


# --- exit codes


def test_the_documentation_has_every_exit_code_and_no_other() -> None:
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    assert tuple(map(int, re.findall(r"^\| ([0-9]+) \|", text, flags=re.MULTILINE))) == EXIT_CODES


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "realtime_mer", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), [(["replay", "nowhere"], 1), (["--config", "nowhere.toml"], 2)])
def test_the_exit_code_of_a_process(arguments: list[str], code: int, tmp_path: Path) -> None:
    run = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert run.returncode == code in EXIT_CODES


@pytest.mark.slow
def test_ctrl_c_interrupts_predict(tmp_path: Path) -> None:
    song = music(3.0)
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", song, 44_100)
    with subprocess.Popen(command("predict", str(tmp_path), "--output", str(tmp_path / "out"), "--jobs", "1")) as run:
        wait_for((tmp_path / "out").exists)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130 in EXIT_CODES


@pytest.mark.slow
def test_a_closed_reader_of_the_output() -> None:
    with subprocess.Popen(command("--print-config"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert (run.wait(60), run.stderr.read()) == (141, b"")
    assert 141 in EXIT_CODES


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_signal_that_comes_while_the_main_thread_holds_the_events_lock_ends_the_run() -> None:
    code = (
        "import signal\n"
        "from realtime_mer.endings import ending_by_signal\n"
        "with ending_by_signal() as stop:\n"
        "    with stop._cond:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    print(stop.wait(30.0))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "True\n"


@pytest.mark.slow
@pytest.mark.parametrize("daemon", [True, False])
def test_the_exit_does_not_wait_for_daemon_threads(daemon: bool) -> None:
    """Python's own work at exit is skipped only if a daemon thread may still be inside a library."""
    code = (
        "import atexit, sys, threading, time\n"
        "from realtime_mer.endings import leave\n"
        "atexit.register(print, 'at exit')\n"
        f"threading.Thread(target=time.sleep, args=(0.2,), daemon={daemon}).start()\n"
        "print('done')\n"
        "leave(3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 3
    assert ended.stdout.splitlines() == ["done", *([] if daemon else ["at exit"])]
