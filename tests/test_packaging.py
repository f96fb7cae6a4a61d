"""The wheel and the sdist, installed and used away from the repository; the systemd unit and the desktop entry."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from checkpoints import music

from realtime_mer import __version__
from realtime_mer.config.profiles import profile_names
from realtime_mer.endings import EXIT_CODES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "packaging" / "realtime-mer.service"
DESKTOP = ROOT / "packaging" / "realtime-mer.desktop"
# For a program that hangs.
TIMEOUT_S = 120.0


def run(
    *command: str | Path, folder: Path, code: int = 0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@dataclass(frozen=True)
class Built:
    """sdist, wheel: the archives; the wheel is made from the sdist. direct: the wheel made from the checkout."""

    sdist: Path
    wheel: Path
    direct: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("build", reason="the package `build` (extra dev) builds the wheel")
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    run(*build, folder / "both", ROOT, folder=folder)
    run(*build, folder / "direct", "--wheel", ROOT, folder=folder)
    (sdist,), (wheel,) = (folder / "both").glob("*.tar.gz"), (folder / "both").glob("*.whl")
    return Built(sdist, wheel, folder / "direct" / wheel.name)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    if not python.exists():
        pytest.skip("the paths in this test are those of Linux and macOS")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install")
    run(*pip, "--no-deps", "--no-index", built.wheel, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # A .pth file adds folders behind its own, and ignores .pth files in them, such as that of an editable install.
    borrowed = {path for path in sys.path if Path(path).name == "site-packages"}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)), encoding="utf-8")
    return folder


def contents(archive: Path) -> dict[str, bytes]:
    """The files of an archive by name, without the sdist's folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(archive) as sdist:
        files = {member.name.partition("/")[2]: sdist.extractfile(member) for member in sdist if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def tracked(*folders: str) -> set[str]:
    """The files of the repository in these folders."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders, folder=ROOT).stdout
    return {name for name in listed.splitlines() if (ROOT / name).exists()}


def test_the_sdist_makes_the_same_wheel_as_the_checkout(built: Built) -> None:
    assert built.wheel.read_bytes() == built.direct.read_bytes()


def test_the_wheel_holds_the_package_and_its_data(built: Built) -> None:
    names = set(contents(built.wheel))
    data, info = f"realtime_mer-{__version__}.data/data/share", f"realtime_mer-{__version__}.dist-info"
    assert names == tracked("realtime_mer") | {
        *(f"realtime_mer/osc/profiles/{name}.toml" for name in profile_names()),
        f"{data}/realtime-mer/live.toml",
        f"{data}/applications/realtime-mer.desktop",
        f"{data}/icons/hicolor/scalable/apps/realtime-mer.svg",
        f"{data}/systemd/user/realtime-mer.service",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")),
    }


def test_the_sdist_holds_the_sources_of_the_wheel(built: Built) -> None:
    names = set(contents(built.sdist))
    papers = {"CHANGELOG.md", "LICENSE", "MODEL_CARD.md", "README.md", "pyproject.toml"}
    folders = tracked("realtime_mer", "configs/live.toml", "configs/osc", "packaging", "docs")
    assert names == folders | papers | {"PKG-INFO", ".gitignore"}


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_the_archives_hold_no_data_and_no_path_of_this_machine(kind: str, built: Built) -> None:
    files = contents(getattr(built, kind))
    for name in files:
        assert not {"train", "tests", "benchmarks", "results", "runs", "shared"} & set(name.split("/")[:-1]), name
        assert not name.endswith((".csv", ".mp3", ".wav", ".flac", ".ogg", ".pyc")), name
    for place in (str(ROOT), str(ROOT.parent / "shared"), str(Path.home()), sys.prefix):
        # Skip a home folder such as /root or /.
        if len(Path(place).parts) > 2:
            assert not [name for name, content in files.items() if place.encode() in content]


def realtime_mer(installed: Path, *arguments: str | Path, folder: Path, code: int = 0) -> tuple[str, str]:
    done = run(installed / "bin" / "realtime-mer", *arguments, folder=folder, code=code)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin" / "python"
    place = run(python, "-c", "import realtime_mer; print(realtime_mer.__file__)", folder=tmp_path).stdout.strip()
    assert Path(place).is_relative_to(installed)
    run(python, "-c", "import train", folder=tmp_path, code=1)


def test_it_predicts_records_and_replays_in_another_folder(installed: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", music(3.0, n_channels=2), 44_100)
    table, _ = realtime_mer(installed, "predict", "song.wav", folder=tmp_path)
    assert table.splitlines()[0] == "time_s,valence,arousal"
    assert len(table.splitlines()) > 3
    given = ("--input", "song.wav", "--fast", "--no-plot", "--no-osc", "--record", "take", "--log-file", "night.log")
    lines, _ = realtime_mer(installed, *given, folder=tmp_path)
    assert lines
    assert "ends with exit code 0" in (tmp_path / "night.log").read_text(encoding="utf-8")
    _, verdict = realtime_mer(installed, "replay", "take", "--fast", "--no-plot", "--no-osc", folder=tmp_path)
    assert "identical" in verdict


def test_its_demo_starts_in_another_folder(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "bin" / "realtime-mer"), "demo", "--no-sound", "--no-plot", "--no-osc"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        first = demo.stdout.readline()
        demo.terminate()
        _, errors = demo.communicate(timeout=TIMEOUT_S)
    assert (demo.returncode, first != "", "Traceback" in errors) == (0, True, False), errors


def test_its_profiles_and_settings_are_found_in_another_folder(installed: Path, tmp_path: Path) -> None:
    every = [part for name in profile_names() for part in ("--osc-profile", name)]
    printed, _ = realtime_mer(installed, *every, "--print-config", folder=tmp_path)
    assert len(tomllib.loads(printed)["osc"]["targets"]) == len(profile_names()) >= 10
    settings = installed / "share" / "realtime-mer" / "live.toml"
    assert settings.read_bytes() == (ROOT / "configs" / "live.toml").read_bytes()
    given = ("--config", settings, "--osc-profile", "qlcplus", "--print-config")
    printed, _ = realtime_mer(installed, *given, folder=tmp_path)
    assert tomllib.loads(printed)["osc"]["targets"][0]["port"] == 7700


# --- the service and the desktop entry


def sections(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file, encoding="utf-8")
    return parser


def commands() -> list[str]:
    desktop = sections(DESKTOP)
    return [sections(UNIT)["Service"]["ExecStart"], *(desktop[name]["Exec"] for name in desktop if name != "DEFAULT")]


@pytest.mark.parametrize("command", commands())
def test_their_commands_are_valid(command: str, tmp_path: Path) -> None:
    program, *arguments = command.split()
    assert program.rpartition("/")[2] == "realtime-mer"
    run(sys.executable, "-m", "realtime_mer", *arguments, "--print-config", folder=tmp_path)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    program = tmp_path / ".local" / "bin" / "realtime-mer"
    program.parent.mkdir(parents=True)
    program.symlink_to("/bin/true")
    here = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    verified = run("systemd-analyze", "--user", "verify", UNIT, folder=tmp_path, environment=here)
    assert verified.stderr == ""


def test_the_unit_restarts_after_failures_but_not_after_wrong_use() -> None:
    unit = sections(UNIT)
    assert unit["Service"]["Restart"] == "on-failure"
    prevented = {int(code) for code in unit["Service"]["RestartPreventExitStatus"].split()}
    assert prevented == {2}
    assert prevented <= set(EXIT_CODES)
    assert {"pipewire-pulse.service", "pulseaudio.service"} <= set(unit["Unit"]["After"].split())


def test_the_desktop_entry_is_valid_and_has_its_icon(built: Built) -> None:
    entry = sections(DESKTOP)["Desktop Entry"]
    assert any(name.endswith(f"/{entry['Icon']}.svg") for name in contents(built.wheel))
    if shutil.which("desktop-file-validate") is None:
        pytest.skip("no desktop-file-validate on this machine (Debian's desktop-file-utils)")
    validated = run("desktop-file-validate", DESKTOP, folder=ROOT)
    assert (validated.stdout, validated.stderr) == ("", "")
