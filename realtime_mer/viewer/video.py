"""A video of a take with its sound, made by ffmpeg.

The sound goes to ffmpeg first, into a small file of its own; then the pictures, as they are drawn.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from realtime_mer.errors import OutputError
from realtime_mer.sources.player import N_CHANNELS
from realtime_mer.viewer.canvas import Canvas
from realtime_mer.viewer.moments import Take
from realtime_mer.viewer.sound import stereo_blocks

FRAMES_HZ = 30
_SOUND_HZ = 48_000
# The sound's share of the work.
_SOUND_SHARE = 0.02
_END_TIMEOUT_S = 600.0

# ffmpeg's name for each format, and the options of the encoders that it chooses: those for picture, and for sound.
_H264 = ("-preset", "veryfast", "-crf", "18")
_VP9 = ("-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-crf", "24", "-b:v", "0")
_FORMATS = {
    ".mp4": ("mp4", (*_H264, "-movflags", "+faststart"), ("-b:a", "192k")),
    ".mkv": ("matroska", _H264, ("-c:a", "aac", "-b:a", "192k")),
    ".webm": ("webm", _VP9, ("-b:a", "160k")),
}


def write_video(
    path: Path, take: Take, open_canvas: Callable[[], Canvas], report: Callable[[float], None], stop: threading.Event
) -> None:
    """Writes the whole take with 30 pictures a second: picture and sound at t s are those t s after its start.

    path: ends in one of command.VIDEO_SUFFIXES. It is replaced once the video is complete; otherwise nothing is left.
    open_canvas: its width and height must be even. report: gets the share done, 0 to 1. stop: ends it.
    Raises OutputError, RecordingError if the sound is damaged, and KeyboardInterrupt once stopped.
    """
    if take.length_s <= 0.0:
        raise OutputError(f"{path} cannot be made: there is no sound in {take.name}.")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise OutputError(
            f"{path} cannot be made: there is no ffmpeg, which makes videos. Install it (https://ffmpeg.org; on Debian "
            "and Ubuntu: sudo apt-get install ffmpeg), or export a picture: .png, .svg"
        )
    name, video, audio = _FORMATS[path.suffix.lower()]
    target = path.resolve()
    # In the same folder, so on the same disk. Without its name, which may already have the greatest length.
    sound, part = (target.with_name(f".{uuid.uuid4().hex}.part") for _ in range(2))
    quiet = [ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    raw_sound = ["-f", "f32le", "-ar", str(_SOUND_HZ), "-ac", str(N_CHANNELS)]
    try:
        command = [*quiet, *raw_sound, "-i", "pipe:0", *audio, "-f", name, _name(sound)]
        _feed(command, path, _sound(take, lambda share: report(_SOUND_SHARE * share)), stop)
        with contextlib.closing(open_canvas()) as canvas:
            size = canvas.size_px
            raw_video = ["-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{size[0]}x{size[1]}", "-r", str(FRAMES_HZ)]
            command = [*quiet, *raw_video, "-i", "pipe:0", "-i", _name(sound), "-map", "0:v", "-map", "1:a"]
            # Players assume these colours for a picture of this size.
            command += ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
            command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
            command += [*video, "-c:a", "copy", "-f", name, _name(part)]
            done = _SOUND_SHARE
            _feed(command, path, _pictures(take, canvas, lambda share: report(done + (1.0 - done) * share)), stop)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        for file in (sound, part):
            file.unlink(missing_ok=True)


def _sound(take: Take, report: Callable[[float], None]) -> Iterator[bytes]:
    n_samples = 0
    for block in stereo_blocks(take, take.start_s, _SOUND_HZ):
        yield block.astype("<f4", copy=False).tobytes()
        n_samples += len(block)
        report(min(n_samples / (take.length_s * _SOUND_HZ), 1.0))


def _pictures(take: Take, canvas: Canvas, report: Callable[[float], None]) -> Iterator[bytes]:
    n = max(math.ceil(take.length_s * FRAMES_HZ - 1e-6), 1)
    for number in range(n):
        yield canvas.pixels(take.start_s + number / FRAMES_HZ)
        report((number + 1) / n)


def _feed(command: Sequence[str], path: Path, content: Iterator[bytes], stop: threading.Event) -> None:
    """Runs ffmpeg and writes this content to its standard input."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            bufsize=0,
            # Ctrl-C must not reach it: this process ends it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if sys.platform == "win32" else 0,
        )
        assert process.stdin is not None
        try:
            # If it stops reading, its messages say why.
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
            raise OutputError(f"{path} cannot be made: ffmpeg does not end.") from error
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
        errors.seek(0)
        lines = errors.read(65_536).decode("utf-8", "replace").split("\n")
    if process.returncode != 0:
        reasons = [line.strip() for line in lines if line.strip()]
        reason = reasons[-1] if reasons else f"it ended with {process.returncode}"
        printable = "".join(character if character.isprintable() else "?" for character in reason)
        raise OutputError(f"{path} cannot be made: ffmpeg reports: {printable.rstrip('.')}.")


def _name(path: Path) -> str:
    """A file's name that ffmpeg cannot mistake for an option or a protocol."""
    return f"file:{path}"
