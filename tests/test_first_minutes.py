"""What a newcomer mistypes in the first minutes: the message names the mistake and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime_mer.cli import main
from realtime_mer.config import ConfigError, TargetSettings, load_settings


def misuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a wrong command line prints on standard error: a line or two, without the usage."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert len(printed.err.splitlines()) <= 2
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--devcie", "monitor"], "no option --devcie. Did you mean --device?"),
        (["--devcie=monitor"], "no option --devcie. Did you mean --device?"),
        (["-device", "monitor"], "no option -device. Did you mean --device?"),
        (["--record", "demo", "--ocs", "a:1"], "no option --ocs. Did you mean --osc?"),
        (["--silence-db", "-50", "--them", "dark", "--DEVICE", "1"], "no option --DEVICE. Did you mean --device?"),
        (["demo", "--no-sond"], "no option --no-sond. Did you mean --no-sound?"),
        (["predict", "a.wav", "--ouput", "b"], "no option --ouput. Did you mean --output?"),
        (["predict", "a.wav", "--device", "1"], "no option --device. It is an option of `realtime-mer`."),
        (["--jobs", "3"], "no option --jobs. It is an option of `realtime-mer predict`."),
        (["prdict", "a.wav"], "no command 'prdict'. Did you mean predict?"),
        (["Demo"], "no command 'Demo'. Did you mean demo?"),
        (["osc_monitor"], "no command 'osc_monitor'. Did you mean osc-monitor?"),
        (["xyzzy"], "no command 'xyzzy'. There are: demo, "),
        (["song.wav"], "realtime-mer --input song.wav"),
        (["My Song.mp3"], "realtime-mer predict 'My Song.mp3'"),
        (["sets/tonight"], "realtime-mer --input sets/tonight"),
        (["--no-plot", "song.wav"], "realtime-mer predict song.wav"),
    ],
)
def test_what_is_misspelt_is_named_with_the_nearest(
    arguments: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cure in misuse(capsys, *arguments)


def test_a_folder_as_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "songs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "realtime-mer predict songs --output DIR" in misuse(capsys, "songs")


def test_beginnings_of_options_and_double_dashes_still_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--devi", "monitor", "--print-config"]) == 0
    assert 'device = "monitor"' in capsys.readouterr().out
    assert main(["predict", "--", "--devcie"]) == 1
    assert "--devcie: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["QLC+", "QLCplus", "qlc plus", "Qlc-Plus", "qlcplus"])
def test_profiles_are_found_whatever_the_case_and_punctuation(name: str, tmp_path: Path) -> None:
    expected = load_settings(None, {"osc.targets": ["qlcplus@10.0.0.5"]}).osc.targets
    assert expected != (TargetSettings("10.0.0.5"),)
    assert load_settings(None, {"osc.targets": [f"{name}@10.0.0.5"]}).osc.targets == expected
    assert load_settings(None, {"osc.targets": [f"{name}@"]}).osc.targets[0].port == 7700
    path = tmp_path / "live.toml"
    path.write_text(f'[[osc.targets]]\nprofile = "{name}"\nhost = "10.0.0.5"\n')
    assert load_settings(path, {}).osc.targets == expected
    # A profile where a target belongs.
    with pytest.raises(ConfigError, match="qlcplus@HOST:PORT"):
        load_settings(None, {"osc.targets": [name]})
