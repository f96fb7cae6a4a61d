"""Audio files of every kind are read to their real end, whatever their header says."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music

from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import FloatArray

RATE_HZ = 44_100
DURATION_S = 4.0

# Name of the file: how FFmpeg makes it.
ENCODED = {
    "aac.m4a": [],
    "alac.m4a": ["-c:a", "alac"],
    "aac.mp4": [],
    "opus.webm": ["-c:a", "libopus"],
    "a.wma": [],
    "a.ac3": [],
    "vorbis.mka": ["-c:a", "libvorbis"],
    "a.aac": [],
    "flac.ogg": ["-c:a", "flac"],
    "cbr.mp3": ["-b:a", "192k"],
    "vbr without a length.mp3": ["-q:a", "4", "-write_xing", "0"],
    "24.wav": ["-c:a", "pcm_s24le"],
    "8.wav": ["-c:a", "pcm_u8"],
}
LOSSLESS = {"alac.m4a": 1e-4, "flac.ogg": 1e-4, "24.wav": 1e-6, "8.wav": 1e-2}


def sound_of(path: Path) -> FloatArray:
    """Shape (n_samples, n_channels)."""
    blocks = list(read_blocks(path))
    starts_s = np.cumsum([0] + [len(block.samples) for block in blocks[:-1]]) / blocks[0].rate_hz
    np.testing.assert_allclose([block.start_s for block in blocks], starts_s)
    return np.concatenate([block.samples for block in blocks])


def encode(source: Path | str, path: Path, *options: str, input_format: str | None = None) -> Path:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg (Debian: apt-get install ffmpeg), which makes the files")
    given = ["-f", input_format] if input_format else []
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *given, "-i", str(source), *options, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, music(DURATION_S, RATE_HZ, 2), RATE_HZ, subtype="FLOAT")
    return path


@pytest.mark.parametrize("name", ENCODED)
def test_every_kind_of_file_is_read_to_its_end(name: str, song: Path, tmp_path: Path) -> None:
    samples = sound_of(encode(song, tmp_path / name, *ENCODED[name]))
    rate_hz = next(read_blocks(tmp_path / name)).rate_hz
    # Encoders add up to a tenth of a second of padding; WMA drops a last short frame.
    assert len(samples) / rate_hz == pytest.approx(DURATION_S, abs=0.1)
    assert samples.shape[1] == 2
    original, _ = soundfile.read(song, dtype="float32")
    if name in LOSSLESS:
        np.testing.assert_allclose(samples, original, atol=LOSSLESS[name])
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(original**2)), rel=0.1)


def with_data_length(wav: bytes, length: int) -> bytes:
    place = wav.index(b"data") + 4
    return wav[:place] + struct.pack("<I", length) + wav[place + 4 :]


@pytest.mark.parametrize("length", [0, 10_000, 0xFFFF_FFFF])
@pytest.mark.parametrize("chunk_behind", [b"", b"LIST\x04\x00\x00\x00INFO"])
def test_a_wav_with_a_wrong_length_is_read_to_its_end(length: int, chunk_behind: bytes, tmp_path: Path) -> None:
    # Values with no run of four printable bytes, which could be a chunk's name.
    samples = np.where(np.arange(2 * RATE_HZ) % 100 < 50, -12_000, 12_000).astype(np.int16)
    soundfile.write(tmp_path / "right.wav", samples, RATE_HZ)
    content = (tmp_path / "right.wav").read_bytes()
    (tmp_path / "wrong.wav").write_bytes(with_data_length(content, length))
    np.testing.assert_array_equal(sound_of(tmp_path / "wrong.wav"), sound_of(tmp_path / "right.wav"))
    (tmp_path / "more.wav").write_bytes(content + chunk_behind)
    np.testing.assert_array_equal(sound_of(tmp_path / "more.wav"), sound_of(tmp_path / "right.wav"))


def test_a_flac_stream_without_a_length_is_read_to_its_end(song: Path, tmp_path: Path) -> None:
    whole = encode(song, tmp_path / "whole.flac")
    command = f"ffmpeg -nostdin -loglevel error -i '{song}' -f flac - | cat > '{tmp_path / 'stream.flac'}'"
    subprocess.run(command, shell=True, check=True)
    np.testing.assert_array_equal(sound_of(tmp_path / "stream.flac"), sound_of(whole))


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_two_files_joined_are_read_as_both(name: str, song: Path, tmp_path: Path) -> None:
    one = encode(song, tmp_path / name).read_bytes()
    (tmp_path / f"joined{name[1:]}").write_bytes(one + one)
    assert len(sound_of(tmp_path / f"joined{name[1:]}")) / RATE_HZ == pytest.approx(2 * DURATION_S, abs=0.15)


def test_an_mp3_with_a_picture_and_no_length_is_read_to_its_end(song: Path, tmp_path: Path) -> None:
    plain = encode(song, tmp_path / "plain.mp3", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0").read_bytes()
    picture = b"APIC\x00\x01\x00\x00\x00\x00\x00image/png\x00\x03\x00" + bytes(65_000)
    size = len(picture)
    header = b"ID3\x03\x00\x00" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "picture.mp3").write_bytes(header + picture + plain)
    assert len(sound_of(tmp_path / "picture.mp3")) / RATE_HZ == pytest.approx(DURATION_S, abs=0.1)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_file_that_is_cut_short_is_named(name: str, song: Path, tmp_path: Path) -> None:
    path = encode(song, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioFileError, match=r"is cut short|cannot be read as audio") as raised:
        sound_of(path)
    assert str(path) in str(raised.value)


def test_sound_from_a_pipe_is_read_to_its_end(song: Path) -> None:
    code = (
        "from pathlib import Path; from realtime_mer.sources.reading import read_blocks; "
        "print(sum(len(block.samples) for block in read_blocks(Path('/dev/stdin'))))"
    )
    make = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", str(song), "-f", "wav", "-"]
    if shutil.which(make[0]) is None:
        pytest.skip("no ffmpeg (Debian: apt-get install ffmpeg), which makes the files")
    with subprocess.Popen(make, stdout=subprocess.PIPE) as encoder:
        read = subprocess.run([sys.executable, "-c", code], stdin=encoder.stdout, capture_output=True, check=True)
    assert int(read.stdout) == round(DURATION_S * RATE_HZ)


def test_a_playlist_opens_no_other_file(song: Path, tmp_path: Path) -> None:
    for name, text in (
        ("list.m3u8", f"#EXTM3U\n#EXTINF:4,\n{song}\n"),
        ("list.ffconcat", f"ffconcat version 1.0\nfile '{song}'\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioFileError, match="cannot be read as audio"):
            sound_of(tmp_path / name)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    film = encode("color=s=64x64:d=1", tmp_path / "a.mp4", input_format="lavfi")
    with pytest.raises(AudioFileError, match="expected sound, got none"):
        sound_of(film)
