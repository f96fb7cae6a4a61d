"""The command itself: its help, its exit codes, and that no mistake of a user's ever shows a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from realtime_mer import __version__, cli
from realtime_mer.checkpoint import CheckpointError, default_checkpoint_path
from realtime_mer.cli import main
from realtime_mer.extraction import AudioFileError
from realtime_mer.features import FeatureEngineError
from realtime_mer.predict import OutputError, UsageError
from realtime_mer.workers import default_jobs

ROOT = Path(__file__).resolve().parents[1]


def exit_code(*arguments: str) -> int:
    """Of `main`, whether it returns or argparse exits."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"realtime-mer {__version__}\n"
    assert exit_code("--help") == 0
    assert "predict" in capsys.readouterr().out
    assert exit_code("predict", "--help") == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("FILE", "--output", "--format", "--checkpoint", "--plot", "--jobs"))


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: realtime-mer" in printed.err
    assert "predict" in printed.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["predict"], "FILE"),
        (["predict", "a.wav", "--format", "xml"], "invalid choice: 'xml'"),
        (["predict", "a.wav", "--jobs", "0"], "expected a whole number of at least 1, not '0'"),
        (["predict", "a.wav", "--jobs", "many"], "expected a whole number of at least 1, not 'many'"),
        (["predict", "a.wav", "--bogus"], "unrecognized arguments: --bogus"),
        (["improvise"], "improvise"),
    ],
)
def test_wrong_arguments(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    assert reason in capsys.readouterr().err


def test_the_arguments_reach_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def record(inputs: Any, **options: Any) -> int:
        calls.append((inputs, options))
        return len(calls) - 1

    monkeypatch.setattr(cli, "run_predict", record)
    assert exit_code("predict", "a.wav", "b") == 0
    given = "predict a.wav --output o --format json --checkpoint c --plot --jobs 3"
    assert exit_code(*given.split()) == 1, "one file was skipped"
    defaults = {
        "output": None,
        "table_format": "csv",
        "checkpoint_path": default_checkpoint_path(),
        "plot": False,
        "jobs": default_jobs(),
    }
    assert calls[0] == ([Path("a.wav"), Path("b")], defaults)
    changed = {
        "output": Path("o"),
        "table_format": "json",
        "checkpoint_path": Path("c"),
        "plot": True,
        "jobs": 3,
    }
    assert calls[1] == ([Path("a.wav")], changed)


def raising(error: BaseException) -> Callable[..., int]:
    def work(*_arguments: Any, **_options: Any) -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("Give a folder."), 2, "realtime-mer: error: Give a folder.\n"),
        (AudioFileError("a.wav is no audio."), 1, "realtime-mer: error: a.wav is no audio.\n"),
        (CheckpointError("c is none."), 1, "realtime-mer: error: c is none.\n"),
        (FeatureEngineError("No openSMILE."), 1, "realtime-mer: error: No openSMILE.\n"),
        (OutputError("o is full."), 1, "realtime-mer: error: o is full.\n"),
        (KeyboardInterrupt(), 130, "realtime-mer: interrupted\n"),
    ],
)
def test_how_failures_end(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "run_predict", raising(error))
    assert exit_code("predict", "a.wav") == code
    assert capsys.readouterr().err == message


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run_predict", raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(["predict", "a.wav"])


def test_a_checkpoint_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").write_text("no model")
    assert exit_code("predict", "a.wav", "--checkpoint", str(tmp_path / "model")) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"realtime-mer: error: The checkpoint {tmp_path / 'model'} cannot be used: it is no ")


def test_as_a_module_and_without_torch_until_it_is_needed() -> None:
    code = (
        "import runpy, sys; sys.argv = ['realtime-mer', '--version']\n"
        "try: runpy.run_module('realtime_mer', run_name='__main__')\n"
        "finally: print(*sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"realtime-mer {__version__}\n\n", "")
