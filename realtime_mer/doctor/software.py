"""Versions, openSMILE, the model, the window, ffmpeg, the folder to record into, the log."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from realtime_mer import __version__
from realtime_mer.config import LiveSettings, ModelSettings
from realtime_mer.doctor import Check, Verdict, failed, from_error, ok, skipped, warning
from realtime_mer.errors import CheckpointError
from realtime_mer.models.packaged import chosen_checkpoint_path

_LIBRARIES = ("numpy", "python-osc", "safetensors", "scipy", "sounddevice", "soundfile", "soxr")
_WINDOW_LIBRARIES = ("PyQt5", "pyqtgraph")
# Beside the model that comes with the program, in the format of sha256sum -c.
CHECKSUM_SUFFIX = ".sha256"
# Two channels of 24 bits at 48 kHz, as FLAC at most.
_RECORDED_BYTES_PER_H = 48_000 * 2 * 3 * 3600
_LEAST_H, _ENOUGH_H = 0.1, 8.0


def program(_settings: LiveSettings) -> list[Check]:
    """The program, Python, the system and the libraries."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    cores = f"{n_cores} core{'' if n_cores == 1 else 's'}"
    python = f"Python {platform.python_version()}"
    found: dict[str, str | None] = {name: _version(name) for name in (*_LIBRARIES, *_WINDOW_LIBRARIES)}
    text = ", ".join(f"{name} {installed}" for name, installed in found.items() if installed)
    missing = [name for name in _LIBRARIES if found[name] is None]
    libraries = ok("libraries", text)
    if missing:
        libraries = failed(
            "libraries", f"{', '.join(missing)} missing; found {text}", f"pip install {' '.join(missing)}"
        )
    return [
        ok("program", f"realtime-mer {__version__}, {python}"),
        ok("system", f"{system}, {platform.system()} {platform.release()}, {platform.machine()}, {cores}"),
        libraries,
    ]


def opensmile(settings: LiveSettings) -> list[Check]:
    """Whether openSMILE loads, and computes a frame of features."""
    from realtime_mer.features.engine import ENGINE_RATE_HZ, N_FEATURES, FeatureEngine, FeatureEngineError

    if settings.model.name == "open":
        return [skipped("openSMILE", "the open model does not need it")]
    try:
        engine = FeatureEngine()
        time_s = np.arange(round(1.5 * ENGINE_RATE_HZ)) / ENGINE_RATE_HZ
        tone = 0.1 * (np.sin(2 * np.pi * 220.0 * time_s) + np.sin(2 * np.pi * 330.0 * time_s))
        engine.write(tone.astype(np.float32))
        frames = engine.finish()
    except FeatureEngineError as error:
        return [from_error("openSMILE", error)]
    if not frames or len(frames[0].values) != N_FEATURES or not np.isfinite(frames[0].values).all():
        text = f"It loads, but does not compute {N_FEATURES} features."
        return [failed("openSMILE", text, "Reinstall opensmile (pip).")]
    return [ok("openSMILE", f"{_version('opensmile')} loads, and computes {N_FEATURES} features of a chord")]


def expected_sha256(name: str) -> str:
    """The checksum of the model with this name that comes with the program, in hexadecimal. Raises OSError."""
    path = chosen_checkpoint_path(ModelSettings(name))
    return path.with_name(path.name + CHECKSUM_SUFFIX).read_text(encoding="ascii").split()[0]


def model(settings: LiveSettings) -> list[Check]:
    """Whether the model can be used, and is one that comes with the program."""
    from realtime_mer.features.engine import FeatureEngineError
    from realtime_mer.models.checkpoint import load_checkpoint

    own = settings.model.checkpoint is None
    path = chosen_checkpoint_path(settings.model)
    cure = "Reinstall realtime-mer." if own else "Give another one with --checkpoint, or none."
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        checkpoint = load_checkpoint(path)
        expected = expected_sha256(settings.model.name)
    except OSError as error:
        return [failed("model", f"{path.name} cannot be read: {error.strerror or error}.", cure)]
    except CheckpointError as error:
        # Without the folder: that is private in a bug report.
        return [failed("model", str(error).replace(str(path), path.name), cure)]
    except FeatureEngineError as error:
        return [from_error("model", error)]
    what = f"{checkpoint.model_name}, {len(checkpoint.feature_names)} features, SHA-256 {sha256[:16]}…"
    if sha256 == expected:
        return [ok("model", f"the one that comes with realtime-mer: {what}")]
    if own:
        return [failed("model", f"not the one that came with realtime-mer: {what}, not {expected[:16]}…", cure)]
    return [ok("model", f"{path.name}, your own: {what}")]


def window(settings: LiveSettings) -> list[Check]:
    """Whether a window can open."""
    from realtime_mer.window import display_fault

    if not settings.display.plot:
        return [skipped("window", "off in the settings")]
    fault = display_fault()
    if fault is None:
        return [ok("window", f"Qt can draw on this display ({_qt()})")]
    text, _, cure = fault.partition(". ")
    instead = "Without a window, the terminal shows the view." if settings.display.terminal else ""
    return [warning("window", f"{text}.", f"{cure} {instead}".strip())]


def ffmpeg(_settings: LiveSettings) -> list[Check]:
    """ffmpeg, which `view --export` needs for videos."""
    if shutil.which("ffmpeg") is None:
        cure = "Install ffmpeg (Debian, Ubuntu: apt-get install ffmpeg). Only `view --export` of a video needs it."
        return [warning("ffmpeg", "It is not installed.", cure)]
    return [ok("ffmpeg", "installed, for `view --export` of videos")]


def recording(settings: LiveSettings) -> list[Check]:
    """Whether the folder to record into can be used; nothing is written."""
    directory = settings.recording.directory
    if directory is None:
        return [skipped("recording", "off in the settings")]
    path = Path(directory)
    cure = "Name one where you may write."
    try:
        if path.exists() and not (path.is_dir() and next(path.iterdir(), None) is None):
            what = "The folder is not empty" if path.is_dir() else "It is not a folder"
            return [failed("recording", f"{what}: {path.name}.", "Name a new folder, or an empty one.")]
        if _is_read_only(path):
            return [failed("recording", f"The disk of {path.name} is read-only.", "Name a folder on another disk.")]
        _check_writable(path)
        free_bytes = shutil.disk_usage(_existing(path)).free
    except OSError as error:
        return [failed("recording", f"The folder {path.name} cannot be written: {error.strerror}.", cure)]
    free_h = free_bytes / _RECORDED_BYTES_PER_H
    text = f"{path.name} has {free_bytes / 2**30:.1f} GiB free, for {free_h:.0f} h of stereo at least"
    if free_h >= _ENOUGH_H:
        return [ok("recording", text)]
    verdict = Verdict.FAILED if free_h < _LEAST_H else Verdict.WARNING
    return [Check("recording", verdict, text, f"Make room (a night takes {_ENOUGH_H:g} h), or name another folder.")]


def log(settings: LiveSettings) -> list[Check]:
    """Whether the log can be written; nothing is written."""
    from realtime_mer.log import LogError, check_is_log

    file = settings.log.file
    if file is None:
        return [skipped("log", "off in the settings")]
    if file == "-":
        return [ok("log", "goes to standard error")]
    path = Path(file)
    cure = "Give another one with --log-file."
    try:
        check_is_log(path)
        _check_writable(path)
    except OSError as error:
        return [failed("log", f"{path.name} cannot be written: {error.strerror}.", cure)]
    except LogError as error:
        return [failed("log", f"{str(error).partition(':')[0].replace(str(path), path.name)}.", cure)]
    return [ok("log", f"{path.name} can be written")]


def _existing(path: Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    return next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())


def _is_read_only(path: Path) -> bool:
    """Whether the file system is mounted read-only; False on Windows, which does not report it."""
    return hasattr(os, "statvfs") and bool(os.statvfs(_existing(path)).f_flag & os.ST_RDONLY)


def _check_writable(path: Path) -> None:
    """Raises OSError unless the path, or the first of its folders to be created, can be written."""
    there = _existing(path)
    is_folder = there.is_dir()
    if not is_folder and there != path.absolute():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(there, os.W_OK | os.X_OK if is_folder else os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _qt() -> str:
    from PyQt5.QtCore import QT_VERSION_STR

    way = "offscreen" if os.environ.get("QT_QPA_PLATFORM") == "offscreen" else sys.platform
    for variable, name in (("WAYLAND_DISPLAY", "Wayland"), ("DISPLAY", "X11")):
        if os.environ.get(variable) and way == "linux":
            way = name
    return f"Qt {QT_VERSION_STR}, {way}"
