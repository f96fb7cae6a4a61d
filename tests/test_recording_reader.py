"""Reading a recording: every defect is reported, and a recording that was cut off is read as far as it goes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from recordings import RATE_HZ, good_recording, noise, replayed

from realtime_mer import __version__
from realtime_mer.recording import Beginning, RecordingError
from realtime_mer.recording.reader import read_recording


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return good_recording(tmp_path / "recording")


# ---- defects --------------------------------------------------------------------------------------------------------

Change = Callable[[Path], object]


def replaced(name: str, old: str, new: str) -> Change:
    def change(directory: Path) -> None:
        content = (directory / name).read_text(encoding="utf-8")
        assert old in content
        (directory / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def facts(**entries: object) -> Change:
    return change_facts(lambda values: values.update(entries))


def segment_facts(i: int, **entries: object) -> Change:
    return change_facts(lambda values: values["segments"][i].update(entries))


def change_facts(edit: Callable[[dict[str, Any]], object]) -> Change:
    def change(directory: Path) -> None:
        values = json.loads((directory / "recording.json").read_text())
        edit(values)
        (directory / "recording.json").write_text(json.dumps(values))

    return change


def removed(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def content(name: str, new: bytes) -> Change:
    return lambda directory: (directory / name).write_bytes(new)


def other_flac(directory: Path) -> None:
    soundfile.write(directory / "audio-003.flac", noise(100), RATE_HZ, subtype="PCM_16")


BEGAN = {"index": 4, "time_s": 2.5, "valence": 0.25, "arousal": -0.5}
DEFECTS: list[tuple[Change, str]] = [
    *((removed(name), f"{name} is missing") for name in ("settings.toml", "recording.json", "drops.csv")),
    (removed("audio-003.flac"), "audio-003.flac is missing"),
    (content("audio-000.flac", b"no sound"), "audio-000.flac cannot be read"),
    (content("audio-000.flac", b""), "audio-000.flac cannot be read"),
    (other_flac, "audio-003.flac is not the file that recording.json describes"),
    *(
        (content("recording.json", json_text), "recording.json is not usable")
        for json_text in (b"{", b"[" * 100_000, b'{"format_version": ' + b"9" * 5_000 + b"}", b"[]", b"{}")
    ),
    (content("recording.json", b"\xff"), "recording.json is no text in UTF-8"),
    (facts(format_version=2), f"it has the format version 2, but realtime-mer {__version__} reads 1"),
    (facts(format_version=True), "format_version"),
    (facts(whole=1), "whole"),
    (facts(fault="But why?"), "calls it whole, but has a fault"),
    (facts(checkpoint_sha256="../../etc"), "checkpoint_sha256"),
    (facts(source=None), "source"),
    (facts(segments={}), "segments"),
    (facts(open_end=0), "open_end"),
    *((facts(began=began), "began") for began in (None, {}, BEGAN | {"index": -1}, BEGAN | {"index": 4.0})),
    (facts(began=BEGAN | {"\x1b[2J": "../model"}), "unknown field"),
    (facts(began=BEGAN), "predictions.csv, line 2: expected the index 4, got 0"),
    (facts(began=BEGAN | {"index": 0}), "predictions.csv, line 2: times rise"),
    *(
        (facts(began=BEGAN | {name: value}), "recording.json is not usable")
        for name in ("time_s", "valence", "arousal")
        for value in (-1.5, 1e300, math.nan, "0.0")
    ),
    *(
        (segment_facts(0, **{name: value}), f"segments.*{name}|unknown field `{name}`")
        for name, value in (
            ("path", "/etc/passwd"),
            ("segment", "../0"),
            ("segment", -1),
            ("segment", 10**300),
            ("rate_hz", 0),
            ("channels", 9),
            ("samples", 1.5),
        )
    ),
    (segment_facts(1, segment=0, channels=2, samples=8_000), "its segments are not in order"),
    (segment_facts(0, rate_hz=RATE_HZ + 1), "audio-000.flac is not the file"),
    (segment_facts(0, channels=1), "audio-000.flac is not the file"),
    (segment_facts(0, samples=8_001), "audio-000.flac is not the file"),
    (segment_facts(0, samples=None), "can be cut off"),
    (segment_facts(1, samples=None), "can be cut off"),
    (segment_facts(0, samples=0), "the segment 0 ends before its last drop"),
    (content("settings.toml", b"[level]\nloud = 1.0\n"), "level.loud"),
    (replaced("predictions.csv", "index,", "number,"), "predictions.csv does not begin with index,time_s"),
    (content("predictions.csv", b""), "predictions.csv does not begin with"),
    (replaced("predictions.csv", "1,1.5,0.25,-0.5,false\n", ""), "line 3: expected the index 1, got 2"),
    (replaced("predictions.csv", "1,1.5,", "1;1.5,"), "line 3: its fields are not those of"),
    (replaced("predictions.csv", "1,1.5,", "1,0.5,"), "line 3: times rise"),
    (replaced("predictions.csv", "0.25", "1.25"), "line 2: times rise, valence and arousal lie in -1 to 1"),
    (replaced("predictions.csv", "-0.5", "-1.5"), "line 2: times rise, valence and arousal lie in -1 to 1"),
    (replaced("predictions.csv", "true", "yes"), "line 4: .* held is true or false"),
    *(
        (replaced("predictions.csv", "0.25", text), "line 2: .* is no number as a recording has them")
        for text in ("nan", "inf", "0.250", "0_1.0", " 0.25", "", "loud", "0x1p-2", "\x1b[2J")
    ),
    *(
        (replaced("predictions.csv", "\n0,1.0", f"\n{text},1.0"), "line 2: .* is no whole number")
        for text in ("", "00", "-0", "0.0", "٣", "9" * 10_000)
    ),
    (replaced("predictions.csv", "true\n", "true"), "predictions.csv breaks off in its last line"),
    (replaced("drops.csv", "0,6000,480", "1,6000,480"), "drops.csv, line 2: there is no segment 1"),
    (replaced("drops.csv", "0,6000,480", "0,9000,480"), "the segment 0 ends before its last drop"),
    (replaced("drops.csv", "0,6000,480", "0,6000,0"), "line 2: the drops are not in order, or empty"),
    (replaced("drops.csv", "\n3,", "\n0,5999,1\n3,"), "line 3: the drops are not in order, or empty"),
    (replaced("drops.csv", "480", "1000000000000001"), "line 2: .* is no whole number"),
]


@pytest.mark.parametrize(("change", "message"), DEFECTS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_defect_is_reported(good: Path, change: Change, message: str) -> None:
    read_recording(good)
    change(good)
    with pytest.raises(RecordingError, match=message) as raised:
        read_recording(good)
    assert str(raised.value).startswith(f"The recording {good} cannot be used: ")
    assert str(raised.value).isprintable()


def test_recordings_of_an_older_version(good: Path) -> None:
    before = read_recording(good)
    (good / "marks.csv").unlink()
    change_facts(lambda values: values.pop("open_end"))(good)
    assert "began" not in (good / "recording.json").read_text()
    assert read_recording(good) == before
    assert (before.began, before.open_end) == (Beginning(), False)


def test_a_file_that_is_too_large_is_not_read(good: Path) -> None:
    for name in ("predictions.csv", "recording.json"):
        with (good / name).open("r+b") as file:
            file.truncate(2**40)
        with pytest.raises(RecordingError, match=f"{name} is larger than"):
            read_recording(good)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be used: there is no such folder"):
        read_recording(tmp_path / "recording")
    with pytest.raises(RecordingError, match="cannot be used: File name too long"):
        read_recording(tmp_path / ("a" * 300))


def test_texts_of_a_recording_cannot_control_the_terminal(good: Path) -> None:
    facts(source="\x1b[2Jdevice\n", whole=False, fault="\x07why")(good)
    recorded = read_recording(good)
    assert (recorded.source, recorded.fault) == ("?[2Jdevice?", "?why")
    facts(source="long" * 10**5)(good)
    assert len(read_recording(good).source) == 200


# ---- recordings that are not whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 3, 30, 60])
def test_a_table_that_is_cut_off_is_read_as_far_as_it_goes(good: Path, kept: int) -> None:
    facts(whole=False)(good)
    path = good / "predictions.csv"
    path.write_bytes(path.read_bytes()[:kept])
    assert len(read_recording(good).updates) == (1 if kept == 60 else 0)


def test_drops_after_the_cut_are_left_out(good: Path) -> None:
    facts(whole=False)(good)
    segment_facts(1, samples=None)(good)
    with (good / "drops.csv").open("a") as file:
        file.write("3,5000,7\n4,0,7\n")
    (last,) = [one for one in replayed(read_recording(good)) if one.segment == 3]
    assert (len(last.samples), last.dropped_samples) == (100, 1)
