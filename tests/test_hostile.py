"""Hostile and damaged files and packets are read, or refused with a sentence, in bounded time and memory.

`REALTIME_MER_FUZZ_EXAMPLES=20000` tries this many examples of each kind instead of 25.
"""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import small_checkpoint
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from recordings import good_recording
from safetensors.numpy import save
from victim import MEMORY_BYTES, Victim

from realtime_mer import types
from realtime_mer.config.profiles import profile_names, profile_path
from realtime_mer.features.engine import opensmile_names
from realtime_mer.models import checkpoint
from realtime_mer.models.checkpoint import save_checkpoint
from realtime_mer.osc import control, messages
from realtime_mer.osc.messages import Message, packet
from train import deam

ROOT = Path(__file__).resolve().parents[1]

bounded = settings(
    max_examples=int(os.environ.get("REALTIME_MER_FUZZ_EXAMPLES", "25")),
    suppress_health_check=list(HealthCheck),
    # Each example is a file, and quick to look at without being made smaller.
    phases=[phase for phase in Phase if phase is not Phase.shrink],
)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def attack(contents: st.SearchStrategy[bytes], read: Callable[[bytes], object]) -> None:
    @bounded
    @given(contents)
    def test(content: bytes) -> None:
        read(content)

    test()


# --- how good bytes become bad ones ---

# Extreme counts and sizes, in both byte orders.
EXTREMES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"]
EXTREMES += [b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\x01\0\0\0", b"\0\0\0\x01", struct.pack("<I", 10**9), b"\xff" * 8]


@st.composite
def damaged(draw: st.DrawFn, good: bytes, *, head: int | None = None) -> bytes:
    """The bytes with up to six changes, most of them within the first `head`."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        near = len(data) if head is None or draw(st.integers(0, 4)) == 0 else min(head, len(data))
        at = draw(st.integers(0, near - 1))
        match draw(st.sampled_from(["extreme", "extreme", "byte", "delete", "twice", "end", "more"])):
            case "extreme":
                extreme = draw(st.sampled_from(EXTREMES))
                data[at : at + len(extreme)] = extreme
            case "byte":
                data[at] = draw(st.integers(0, 255))
            case "delete":
                del data[at : at + draw(st.sampled_from([1, 4, 100]))]
            case "twice":
                data[at:at] = data[at : at + draw(st.sampled_from([1, 4, 100, 10_000]))]
            case "end":
                del data[at:]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=64))
    return bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged_json(draw: st.DrawFn, good: str) -> bytes:
    """The JSON with one of its values, at any depth, changed or removed."""
    value = json.loads(good)
    inside = value
    while True:
        key = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        if isinstance(inside[key], dict | list) and inside[key] and draw(st.booleans()):
            inside = inside[key]
            continue
        if draw(st.integers(0, 4)) == 0:
            del inside[key]
        else:
            inside[key] = draw(JSON)
        return json.dumps(value).encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- sound ---

FORMATS = {
    "a.wav": ("WAV", "PCM_16"),
    "f.wav": ("WAV", "FLOAT"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "a.caf": ("CAF", "ALAC_16"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_sound_files(victim: Victim, folder: Path, name: str) -> None:
    # A little less than a frame, which takes openSMILE a while.
    noise = 0.1 * np.random.default_rng(0).normal(size=(30_000, 2)).astype(np.float32)
    file_format, subtype = FORMATS[name]
    good = io.BytesIO()
    soundfile.write(good, noise, 44_100, subtype, format=file_format)
    kinds = itertools.cycle(["blocks", "source", "blocks", "source", "sound"])
    attack(
        damaged(good.getvalue(), head=96),
        lambda content: victim.read(next(kinds), write(folder / name, content)),
    )


def wav(rate_hz: int, n_channels: int, data_bytes: int, content: bytes) -> bytes:
    """A 16-bit WAV file with this header and content, which need not agree."""
    form = struct.pack("<HHIIHH", 1, n_channels, rate_hz % 2**32, 0, 2 * n_channels % 2**16, 16)
    head = b"RIFF" + struct.pack("<I", 2**31) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", data_bytes) + content


@pytest.mark.parametrize(
    ("rate_hz", "n_channels", "data_bytes", "answer"),
    [
        (44_100, 2, 2**32 - 2, "read"),
        (1, 1, 400_000, "1 samples per second"),
        (10**9, 1, 400_000, "1000000000 samples per second"),
        (2**31, 1, 400_000, "refused"),
        (44_100, 65_535, 400_000, "refused"),
        (44_100, 0, 400_000, "refused"),
        (44_100, 1_024, 20_480_000, "read"),
    ],
)
def test_wrong_headers_of_wav_files(
    victim: Victim, folder: Path, rate_hz: int, n_channels: int, data_bytes: int, answer: str
) -> None:
    content = bytes(data_bytes if data_bytes < 2**30 else 400_000)
    path = write(folder / "claims.wav", wav(rate_hz, n_channels, data_bytes, content))
    assert answer in victim.read("sound", path)
    victim.read("source", path)


@pytest.mark.slow
def test_the_most_channels_at_the_highest_rate_take_little_memory(victim: Victim, folder: Path) -> None:
    """Half a second would be 1.5 GB."""
    path = write(folder / "sparse.wav", wav(types.HIGHEST_RATE_HZ, 1_024, 2**31 - 2**11, b""))
    with path.open("r+b") as file:
        file.truncate(2**31)
    assert "read" in victim.read("blocks", path)
    path.unlink()


# --- recordings ---


@pytest.mark.parametrize(
    "name",
    ["recording.json", "settings.toml", "predictions.csv", "drops.csv", "events.csv", "marks.csv", "audio-000.flac"],
)
def test_damaged_recordings(victim: Victim, tmp_path: Path, name: str) -> None:
    path = good_recording(tmp_path / "recording") / name
    good = path.read_bytes()
    bad = damaged_json(good.decode()) | damaged(good) if name.endswith(".json") else damaged(good, head=400)
    attack(bad, lambda content: victim.read("recording", write(path, content).parent))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["audio-000.flac", "predictions.csv", "recording.json"])
def test_pipes_and_devices_in_a_recording_are_not_waited_for(victim: Victim, tmp_path: Path, name: str) -> None:
    path = good_recording(tmp_path / "recording") / name
    for make, answer in (
        (os.mkfifo, f"{name} is missing"),
        (lambda path: path.symlink_to("/dev/zero"), f"{name} is missing"),
        (lambda path: path.symlink_to(path), "refused"),
    ):
        path.unlink()
        make(path)
        assert answer in victim.read("recording", path.parent)


@pytest.mark.parametrize("name", ["predictions.csv", "recording.json"])
@pytest.mark.parametrize("filling", [b",", b",\n", b"0\n", b"[", b"[],"])
def test_huge_tables_of_a_recording_take_bounded_memory(
    victim: Victim, tmp_path: Path, name: str, filling: bytes
) -> None:
    path = good_recording(tmp_path / "recording") / name
    good, room = path.read_bytes(), 2**22 if name.endswith(".json") else 2**26
    write(path, good + filling * ((room - len(good)) // len(filling)))
    assert "refused" in victim.read("recording", path.parent)


# --- checkpoints ---


@pytest.fixture(scope="module")
def good_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The file's header and the rest."""
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    save_checkpoint(path, small_checkpoint("mlp", level=False, descriptors=False, calibrated=True))
    content = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", content[:8])[0]
    return content[8:header_end], content[header_end:]


def checkpoint_file(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def test_damaged_checkpoints(victim: Victim, folder: Path, good_checkpoint: tuple[bytes, bytes]) -> None:
    """Also valid JSON, with values of any kind, in the header and in the metadata inside it."""
    header, body = good_checkpoint
    outer = json.loads(header)
    good = checkpoint_file(header, body)

    def with_metadata(metadata: bytes) -> bytes:
        return json.dumps(outer | {"__metadata__": {"realtime_mer": metadata.decode()}}).encode()

    headers = damaged_json(header.decode()) | damaged_json(outer["__metadata__"]["realtime_mer"]).map(with_metadata)
    for bad in (
        damaged(good, head=8) | damaged(good, head=8 + len(header)),
        headers.map(lambda changed: checkpoint_file(changed, body)),
    ):
        attack(bad, lambda content: victim.read("checkpoint", write(folder / "model.safetensors", content)))


def with_tensor(shape: list[int]) -> bytes:
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
    header = json.dumps({"weights.a": tensor, "__metadata__": {"realtime_mer": "{}"}}).encode()
    return checkpoint_file(header, bytes(4))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 2**40) + b"{}" * 100,
        struct.pack("<Q", 50 * 2**20) + b"[" * (50 * 2**20),
        struct.pack("<Q", 20 * 2**20) + b'{"a":' * (4 * 2**20),
        save({}, {"realtime_mer": "[" * 10**6}),
        save({}, {"realtime_mer": '{"format_version": 1' + "0" * 10**6 + "}"}),
        *map(with_tensor, ([2**62], [2**32, 2**32], [10**9], [-1], [0] * 1000, [0, 2**63])),
    ],
)
def test_headers_of_checkpoints_that_are_too_much(victim: Victim, folder: Path, content: bytes) -> None:
    assert "refused" in victim.read("checkpoint", write(folder / "model.safetensors", content))


# --- settings and profiles ---


def test_damaged_settings(victim: Victim, folder: Path) -> None:
    lines = [line.removeprefix("# ") for line in (ROOT / "configs" / "live.toml").read_text().splitlines()]
    good = "\n".join(line for line in lines if line.startswith("[") or " = " in line).encode()
    text = st.text(max_size=300).map(lambda text: text.encode(errors="replace"))
    profiles = st.sampled_from(profile_names()).flatmap(lambda name: damaged(profile_path(name).read_bytes()))
    attack(
        damaged(good) | st.binary(max_size=300) | text,
        lambda content: victim.read("settings", write(folder / "settings.toml", content)),
    )
    attack(profiles, lambda content: victim.read("profile", write(folder / "profile.toml", content)))


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 500_000,
        "a = " + "{a = " * 200_000,
        "[" + ".".join("a" * 50) + "]\n" + "a.b.c.d = 1\n" * 50_000,
        "".join(f"[a{i}]\n" for i in range(20_000)),
        "".join(f"[[osc.targets]]\nhost = 'h{i}'\n" for i in range(5_000)),
        "a = '''" + "x" * (2**20 - 10),
        "a = " + "9" * 1_000_000,
        "a = 1e" + "9" * 1_000_000,
        '"' + "\\u0000" * 150_000 + '" = 1',
    ],
)
def test_settings_that_are_too_much(victim: Victim, folder: Path, text: str) -> None:
    path = write(folder / "much.toml", text.encode()[: 2**20])
    assert "refused" in victim.read("settings", path)
    assert "refused" in victim.read("profile", path)


# --- DEAM ---

DYNAMIC = Path("annotations") / "annotations averaged per song" / "dynamic (per second annotations)"


def deam_folder(root: Path) -> Path:
    """A small one of excerpts."""
    (root / DYNAMIC).mkdir(parents=True)
    (root / "audio").mkdir()
    columns = ",".join(f"sample_{15_000 + 500 * i}ms" for i in range(4))
    for name in ("valence", "arousal"):
        (root / DYNAMIC / f"{name}.csv").write_text(f"song_id,{columns}\n2,0.1,0.2,-0.3,0.4\n3,0.1,,0.3,\n")
    (root / "audio" / "2.ogg").write_bytes(b"sound")
    (root / "audio" / "3.ogg").write_bytes(b"sound")
    (root / "clips.csv").write_text("song_id,file,start_s\n2,audio/2.ogg,15.0\n3,audio/3.ogg,15.0\n")
    (root / "splits.csv").write_text("song_id,split\n2,train\n3,test\n")
    return root


@pytest.mark.parametrize("name", ["clips.csv", "splits.csv", str(DYNAMIC / "valence.csv"), "features.csv"])
def test_damaged_tables_of_deam(victim: Victim, tmp_path: Path, name: str) -> None:
    path = deam_folder(tmp_path / "deam") / name
    if name == "features.csv":
        header = ";".join(("frameTime", *opensmile_names()))
        rows = [";".join([f"{15 + i / 2}", *(f"{k}.5e-3" for k in range(260))]) for i in range(3)]
        path.write_text("\n".join([header, *rows]))
        attack(damaged(path.read_bytes()), lambda content: victim.read("features", write(path, content)))
    else:

        def read(content: bytes) -> None:
            write(path, content)
            victim.read("deam", tmp_path / "deam")

        attack(damaged(path.read_bytes()), read)


@pytest.mark.parametrize(
    "content",
    [
        b"song_id," + b"a," * 2_000_000,
        b"song_id,sample_15000ms\n" + b"1\n" * 4_000_000,
        b"song_id," + b",".join(b"sample_%dms" % (500 * i) for i in range(300_000)),
        b"song_id,sample_" + b"9" * 5_000 + b"ms\n2,0.1\n",
        b"song_id,sample_15000ms\n" + b"9" * 5_000 + b",0.1\n",
        b"song_id,sample_15000ms\n2," + b"9" * 100_000 + b"\n",
        b'song_id,"' + b"\n" * 4_000_000,
    ],
)
def test_tables_of_deam_that_are_too_much(victim: Victim, tmp_path: Path, content: bytes) -> None:
    root = deam_folder(tmp_path / "deam")
    path = write(root / DYNAMIC / "valence.csv", content)
    assert "refused" in victim.read("deam", root)
    assert "refused" in victim.read("features", path)


@pytest.mark.parametrize(
    "name", ["../elsewhere/2.ogg", "/etc/passwd", "audio/../../elsewhere/2.ogg", "a" * 5_000, "\0"]
)
def test_excerpts_outside_of_their_folder_are_left_out(victim: Victim, tmp_path: Path, name: str) -> None:
    root = deam_folder(tmp_path / "deam")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.ogg").write_bytes(b"sound")
    (root / "clips.csv").write_bytes(f"song_id,file,start_s\n2,{name},15.0\n3,audio/3.ogg,15.0\n".encode())
    victim.read("deam", root)
    found = deam.load_deam(root)
    assert [song.song_id for song in found.songs] == [3]
    assert not any("passwd" in str(entry.file) or "elsewhere" in str(entry.file) for entry in found.left_out)


# --- packets, and the window's memory ---

COMMANDS = packet(
    [
        Message("/mer/control/smoothing", "sfi", ("spring", 2.0, 1)),
        Message("/mer/control/mark", "s", ("here",)),
        Message("/mer/control/rate", "f", (60.0,)),
    ]
)


def nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = b"#bundle\0" + bytes(8) + struct.pack(">i", len(inner)) + inner
    return inner


def test_damaged_packets(victim: Victim, folder: Path) -> None:
    bundles = st.integers(1, 60).map(lambda depth: nested(depth, COMMANDS))
    attack(
        damaged(COMMANDS) | bundles | st.binary(max_size=200),
        lambda content: victim.read("packet", write(folder / "packet", content)),
    )


@pytest.mark.parametrize("size", [control.MAX_BYTES, messages.MAX_PACKET_BYTES, 2**20])
def test_huge_packets(victim: Victim, folder: Path, size: int) -> None:
    empty = struct.pack(">i", 16) + b"#bundle\0" + bytes(8)
    for content in (
        nested(size // 20, b""),
        b"#bundle\0" + bytes(8) + empty * ((size - 16) // len(empty)),
        b"/a\0\0," + b"[" * (size - 5),
        b"/a\0\0," + b"N" * (size - 9) + bytes(4),
        b"/" * size,
        bytes(size),
    ):
        victim.read("packet", write(folder / "packet", content))


def test_damaged_memory_of_the_window(victim: Victim, folder: Path) -> None:
    good = json.dumps({"mode": "stage", "theme": "light", "span_s": 600.0, "place": [1, 2, 300, 400]})

    def read(content: bytes) -> None:
        assert victim.read("remembered", write(folder / "window.json", content)) == "read"

    attack(damaged_json(good) | damaged(good.encode()), read)


# --- limits ---


def test_the_page_of_limits_agrees_with_the_code() -> None:
    """docs/limits.md: each row has a constant of the code and its value."""
    found = {}
    for line in (ROOT / "docs" / "limits.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[-1].startswith("`"):
            module, _, constant = cells[-1].strip("`").rpartition(".")
            package = "" if module.startswith("train.") else "realtime_mer."
            found[cells[-1]] = (cells[1], getattr(importlib.import_module(package + module), constant))
    assert len(found) > 30
    for where, (text, value) in found.items():
        number, unit = [*text.replace(",", "").split(), ""][:2]
        assert float(number) * {"KiB": 2**10, "MiB": 2**20}.get(unit, 1) == value, where
    assert MEMORY_BYTES > checkpoint.MAX_FILE_BYTES
