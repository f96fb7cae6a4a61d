"""A video of a take, with its sound, made by ffmpeg.

Pictures and sound go to ffmpeg as they are made: the sound first, into a small file of its own, then the pictures.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime_mer.errors import OutputError
from realtime_mer.sources.player import N_CHANNELS
from realtime_mer.viewer.canvas import Canvas
from realtime_mer.viewer.moments import Take
from realtime_mer.viewer.sound import stereo_blocks

FRAMES_HZ = 30
_SOUND_HZ = 48_000
# Of the work, what making the sound is.
_SOUND_SHARE = 0.02
_END_TIMEOUT_S = 600.0

_H264 = ("libx264", ("-preset", "veryfast", "-crf", "18"))
_MPEG4 = ("mpeg4", ("-q:v", "3"))
_VP9 = ("libvpx-vp9", ("-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-crf", "24", "-b:v", "0"))
_VP8 = ("libvpx", ("-deadline", "realtime", "-cpu-used", "6", "-crf", "10", "-b:v", "8M"))
_AAC, _OPUS, _VORBIS = ("aac", ("-b:a", "192k")), ("libopus", ("-b:a", "160k")), ("libvorbis", ("-q:a", "6"))


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file: ffmpeg's name of it, and its encoders, the best first, each with its options."""

    name: str
    video: tuple[tuple[str, tuple[str, ...]], ...]
    audio: tuple[tuple[str, tuple[str, ...]], ...]
    options: tuple[str, ...] = ()


_KINDS = {
    ".mp4": _Kind("mp4", (_H264, _MPEG4), (_AAC,), ("-movflags", "+faststart")),
    ".mkv": _Kind("matroska", (_H264, _MPEG4), (_OPUS, _VORBIS)),
    ".webm": _Kind("webm", (_VP9, _VP8), (_OPUS, _VORBIS)),
}


def write_video(
    path: Path, take: Take, open_canvas: Callable[[], Canvas], tell: Callable[[float], None], stop: threading.Event
) -> None:
    """Writes the whole take, 30 pictures a second: that at t s is the moment t after its start, as is the sound.

    path: ends in one of export.VIDEO_SUFFIXES. It is replaced once the video is whole; of one that is not, nothing is
    left. open_canvas: called once all else is known to be there; of even width and height. tell: is told what share of
    it is done, 0 to 1. stop: ends it. Raises OutputError, RecordingError where the sound is damaged, and
    KeyboardInterrupt where it was stopped.
    """
    if take.length_s <= 0.0:
        raise OutputError(f"{path} cannot be made: there is no sound in {take.name}, and so nothing to make it of.")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise OutputError(
            f"{path} cannot be made: there is no ffmpeg, which makes videos. Install it (https://ffmpeg.org; on Debian "
            "and Ubuntu: sudo apt-get install ffmpeg), or export a picture: .png, .svg"
        )
    kind = _KINDS[path.suffix.lower()]
    video, audio = _encoders(ffmpeg, path, kind)
    target = path.resolve()
    # Beside it, where there is room for it, or there is none at all. Named without its name, which may be a long one.
    sound, part = (target.with_name(f".{uuid.uuid4().hex}.part") for _ in range(2))
    quiet = [ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    raw_sound = ["-f", "f32le", "-ar", str(_SOUND_HZ), "-ac", str(N_CHANNELS)]
    try:
        command = [*quiet, *raw_sound, "-i", "pipe:0", *audio, "-f", kind.name, _name(sound)]
        _feed(command, path, _sound(take, lambda share: tell(_SOUND_SHARE * share)), stop)
        with contextlib.closing(open_canvas()) as canvas:
            size = canvas.size_px
            raw_video = ["-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{size[0]}x{size[1]}", "-r", str(FRAMES_HZ)]
            command = [*quiet, *raw_video, "-i", "pipe:0", "-i", _name(sound), "-map", "0:v", "-map", "1:a"]
            # Players take a picture of this size for one with these colours; without it they would be a little off.
            command += ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
            command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
            command += [*video, "-c:a", "copy", *kind.options, "-f", kind.name, _name(part)]
            done = _SOUND_SHARE
            _feed(command, path, _pictures(take, canvas, lambda share: tell(done + (1.0 - done) * share)), stop)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        for file in (sound, part):
            file.unlink(missing_ok=True)


def n_pictures(take: Take) -> int:
    """How many pictures a take's video has."""
    return max(math.ceil(take.length_s * FRAMES_HZ - 1e-6), 1)


def _sound(take: Take, tell: Callable[[float], None]) -> Iterator[bytes]:
    n_samples = 0
    for block in stereo_blocks(take, take.start_s, _SOUND_HZ):
        yield block.astype("<f4", copy=False).tobytes()
        n_samples += len(block)
        tell(min(n_samples / (take.length_s * _SOUND_HZ), 1.0))


def _pictures(take: Take, canvas: Canvas, tell: Callable[[float], None]) -> Iterator[bytes]:
    n = n_pictures(take)
    for number in range(n):
        yield canvas.pixels(take.start_s + number / FRAMES_HZ)
        tell((number + 1) / n)


def _encoders(ffmpeg: str, path: Path, kind: _Kind) -> tuple[list[str], list[str]]:
    """Options for the picture and the sound, of what this ffmpeg has. Raises OutputError where it lacks one of them."""
    try:
        told = subprocess.run(
            [ffmpeg, "-hide_banner", "-encoders"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30.0,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"{path} cannot be made: {ffmpeg} does not run ({error}).") from error
    there = set(re.findall(r"^ [VA][A-Z.]{5} (\S+)", told, re.MULTILINE))
    chosen = []
    for letter, encoders in (("v", kind.video), ("a", kind.audio)):
        found = next((encoder for encoder in encoders if encoder[0] in there), None)
        if found is None:
            names = " and no ".join(name for name, _ in encoders)
            raise OutputError(
                f"{path} cannot be made: {ffmpeg} has no encoder {names}. Export another kind of video, or install a "
                "whole ffmpeg."
            )
        chosen.append([f"-c:{letter}", found[0], *found[1]])
    return chosen[0], chosen[1]


def _feed(command: Sequence[str], path: Path, content: Iterator[bytes], stop: threading.Event) -> None:
    """Runs ffmpeg with this content as its standard input, piece by piece."""
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=told,
            bufsize=0,
            # Ctrl-C is for us: we end it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if sys.platform == "win32" else 0,
        )
        assert process.stdin is not None
        try:
            # It says itself why it takes no more.
            with contextlib.suppress(BrokenPipeError):
                for piece in content:
                    if stop.is_set():
                        raise KeyboardInterrupt
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[process.stdin.write(rest) :]
                process.stdin.close()
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise OutputError(f"{path} cannot be made: ffmpeg does not come to its end.") from error
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
        told.seek(0)
        lines = told.read(65_536).decode("utf-8", "replace").split("\n")
    if process.returncode != 0:
        reasons = [line.strip() for line in lines if line.strip()]
        reason = reasons[-1] if reasons else f"it ended with {process.returncode}"
        printable = "".join(character if character.isprintable() else "?" for character in reason)
        raise OutputError(f"{path} cannot be made: ffmpeg says: {printable.rstrip('.')}.")


def _name(path: Path) -> str:
    """A file's name that ffmpeg takes for nothing else."""
    return f"file:{path}"
