"""Programs that we did not write receive a live run over OSC, with the profile and the files that we ship for them:
QLC+, Pure Data and SuperCollider. (liblo's oscdump and oscsend: the other tests of OSC.)"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, without_display
from osc_sockets import free_port
from qlcplus import QLCPlus, channel_number, loopback_line, qlcplus

from realtime_mer import predict
from realtime_mer.config import TargetSettings, load_settings
from realtime_mer.config.profiles import profile_names
from realtime_mer.config.space import SPACE, matching
from realtime_mer.models.checkpoint import save_checkpoint
from realtime_mer.osc.composing import mapped
from realtime_mer.osc.messages import Message, packet
from realtime_mer.osc.sink import OscSink
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

DOCS = Path(__file__).resolve().parents[1] / "docs" / "osc"
WORKSPACE = DOCS / "qlcplus" / "realtime-mer.qxw"
INPUT_PROFILE = DOCS / "qlcplus" / "realtime-mer.qxi"
PATCH = DOCS / "puredata" / "realtime-mer.pd"
CODE = DOCS / "supercollider" / "realtime-mer.scd"
QXW = {"": "http://www.qlcplus.org/Workspace"}
QXI = {"": "http://www.qlcplus.org/InputProfile"}

ENVIRONMENT = without_display(os.environ)
SONG_S = 6.0
# Only against hanging.
TIMEOUT_S = 60.0


def with_port(path: Path, port: int, expected: int, copy: Path) -> Path:
    """A copy of a file that names this port once, with another one."""
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(rf"\b{expected}\b", text)) == 1, "the profile's port, once"
    copy.write_text(re.sub(rf"\b{expected}\b", str(port), text), encoding="utf-8")
    return copy


def profile(name: str) -> TargetSettings:
    (target,) = load_settings(None, {"osc.targets": [f"{name}@"]}).osc.targets
    return target


class Printing:
    """A running program and the lines that it has printed."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._program = program

    def read(self) -> None:
        """Until the program ends."""
        assert self._program.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._program.stdout)

    def found(self, pattern: str) -> list[re.Match[str]]:
        """The lines that match as a whole."""
        return [match for line in list(self.lines) if (match := re.fullmatch(pattern, line))]

    def wait_for(self, condition: Callable[[Printing], object], meanwhile: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(self):
            assert self._program.poll() is None, self.lines
            assert time.monotonic() < deadline, self.lines
            meanwhile()
            time.sleep(0.1)


@contextlib.contextmanager
def printing(package: str, command: list[str], environment: Mapping[str, str] = ENVIRONMENT) -> Iterator[Printing]:
    """Runs the program until the block ends. package: Debian's, which has it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine (Debian's {package})")
    with subprocess.Popen(
        command, env=dict(environment), text=True, stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT
    ) as program:
        printed = Printing(program)
        reader = threading.Thread(target=printed.read)
        reader.start()
        try:
            yield printed
        finally:
            program.kill()
            reader.join()


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_its_guide(name: str) -> None:
    guide = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert f"--osc-profile {name}" in guide
    assert "ried here" in guide or "not run here" in guide
    (row,) = re.findall(
        rf"^\| \[.*\]\({name}\.md\) \|.*$", (DOCS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"| `--osc-profile {name}` | {profile(name).port} |" in row


# QLC+.

# Their values at valence 0.5, arousal -0.5 and a level of -30 dBFS.
FADERS = {"Valence": 0.75, "Arousal": 0.25, "Input level": 0.5, "Brightness": 0.1}


def test_qlcplus_is_only_sent_floats_from_0_to_1() -> None:
    target = profile("qlcplus")
    sent = frozenset[str]().union(*map(matching, target.send))
    for address in SPACE:
        if address.name in sent:
            assert (address.types, address.low, address.high) == ("f", 0, 1)
    ranges = {address.name: (address.low, address.high) for address in SPACE}
    for how in target.map:
        assert how.type == "float"
        for bound in ranges[how.value]:
            assert bound is not None
            assert 0 <= mapped(bound, how) <= 1


def test_the_files_for_qlcplus_have_the_addresses_of_its_profile() -> None:
    target = profile("qlcplus")
    sent = [f"{target.prefix}/{name}" for pattern in target.send for name in matching(pattern)]
    addresses = {address: channel_number(address) for address in (*sent, *(how.address for how in target.map))}
    channels = ET.parse(INPUT_PROFILE).getroot().findall("Channel", QXI)
    named = {str(channel.findtext("Name", None, QXI)): int(channel.attrib["Number"]) for channel in channels}
    assert named == addresses
    used = [int(source.attrib["Channel"]) for source in ET.parse(WORKSPACE).findall(".//VirtualConsole//Input", QXW)]
    assert len(used) == 7
    assert set(used) <= set(addresses.values())


@pytest.mark.slow
def test_qlcplus_follows_what_it_is_sent(tmp_path: Path) -> None:
    port = free_port()
    workspace = with_port(WORKSPACE, port, profile("qlcplus").port, tmp_path / "show.qxw")
    text = workspace.read_text(encoding="utf-8")
    assert text.count(' Line="0"') == 1
    workspace.write_text(text.replace(' Line="0"', f' Line="{loopback_line()}"'), encoding="utf-8")
    faders = {
        fader.attrib["Caption"]: int(fader.attrib["ID"]) for fader in ET.parse(workspace).iter(f"{{{QXW['']}}}Slider")
    }
    looks = int(next(ET.parse(workspace).iter(f"{{{QXW['']}}}CueList")).attrib["ID"])
    update = Update(0, Prediction(1.0, 0.5, -0.5), False, None, quadrant=4)
    status = Status("a source", SourceState.RUNNING, level=InputLevel(-12.0, -30.0, LevelState.MUSIC))
    target = replace(profile("qlcplus"), port=port)
    with qlcplus(workspace, INPUT_PROFILE, tmp_path) as desk, contextlib.closing(OscSink([target])) as sink:
        assert 'value="realtime-mer OSC" selected' in desk.configuration()
        desk.wait_for(lambda desk: desk.cue(looks) == 0, "the look before any music")

        def follows(desk: QLCPlus) -> bool:
            sink.update(update)
            sink.status(status)
            return all(abs(desk.slider(faders[name]) - 255 * value) <= 2 for name, value in FADERS.items())

        desk.wait_for(follows, "its faders where they were sent")
        desk.wait_for(lambda desk: desk.cue(looks) == 4, "the look of quadrant 4")
        # The spot's red follows valence, its blue arousal.
        spot = [desk.slider(faders["Valence"]), 0, desk.slider(faders["Arousal"])]
        desk.wait_for(lambda desk: desk.channels(15)[12:] == spot, "the spot in the colour of the mood")


# Pure Data and SuperCollider.

LISTENER = """#N canvas 0 50 450 300 12;
#X obj 20 20 r mer-smooth-valence;
#X obj 20 50 print smooth-valence;
#X obj 20 80 r mer-smooth-arousal;
#X obj 20 110 print smooth-arousal;
#X connect 0 0 1 0;
#X connect 2 0 3 0;
"""
SHOWS = """
(
"{code}".load;
OSCdef(\\shown, {{ "smooth % %".format(~valence, ~arousal).postln }}, '/mer/frame', recvPort: {port});
"chord: %".format(SynthDescLib.global.at(\\merMood).notNil).postln;
)
"""


def pure_data(folder: Path, port: int) -> contextlib.AbstractContextManager[Printing]:
    patch = with_port(PATCH, port, profile("puredata").port, folder / "patch.pd")
    listener = folder / "listener.pd"
    listener.write_text(LISTENER, encoding="utf-8")
    opened = [argument for path in (patch, listener) for argument in ("-open", str(path))]
    return printing("puredata-core", ["pd", "-nogui", "-noaudio", "-nomidi", "-stderr", *opened])


def supercollider(folder: Path, port: int) -> contextlib.AbstractContextManager[Printing]:
    code = with_port(CODE, port, profile("supercollider").port, folder / "code.scd")
    shows = folder / "shows.scd"
    shows.write_text(SHOWS.format(code=code, port=port), encoding="utf-8")
    home = folder / "home"
    home.mkdir(mode=0o700)
    own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"), str(home))
    # Its help browser, which is not opened here, does not run as root otherwise.
    environment = ENVIRONMENT | own | {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}
    return printing("supercollider-language", ["sclang", str(shows)], environment)


@pytest.mark.slow
def test_pure_data_and_supercollider_print_what_one_run_sends(tmp_path: Path) -> None:
    song, model = tmp_path / "song.wav", tmp_path / "model.safetensors"
    soundfile.write(song, music(SONG_S, n_channels=2), 44_100, subtype="PCM_16")
    save_checkpoint(model, small_checkpoint())
    trajectory = predict(song, checkpoint=model)
    predicted = list(zip(trajectory.valence.tolist(), trajectory.arousal.tolist(), strict=True))
    pd_port, sc_port = free_port(), free_port()
    with pure_data(tmp_path, pd_port) as pd, supercollider(tmp_path, sc_port) as sclang:

        def knock() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
                sender.sendto(packet([Message("/mer/event/music", "i", (7,))]), ("127.0.0.1", pd_port))

        pd.wait_for(lambda pd: pd.found("music: 7"), knock)
        sclang.wait_for(lambda sclang: sclang.found("chord: .*"))
        receivers = ["--osc-profile", f"puredata@127.0.0.1:{pd_port}"]
        receivers += ["--osc-profile", f"supercollider@127.0.0.1:{sc_port}"]
        arguments = ["--input", str(song), "--checkpoint", str(model), "--no-plot", "--no-terminal", *receivers]
        subprocess.run(
            LiveRun.command(*arguments), env=ENVIRONMENT, stdin=subprocess.DEVNULL, timeout=2 * TIMEOUT_S, check=True
        )
        pd.wait_for(lambda pd: len(pd.found(r"arousal: .*")) == len(predicted))
        sclang.wait_for(lambda sclang: len(sclang.found("valence .*")) == len(predicted))
    check_pure_data(pd, predicted)
    check_supercollider(sclang, predicted, sc_port)


def check_pure_data(pd: Printing, predicted: list[tuple[float, float]]) -> None:
    pairs = zip(pd.found(r"valence: (.*)"), pd.found(r"arousal: (.*)"), strict=True)
    # It prints six digits.
    assert [(float(v[1]), float(a[1])) for v, a in pairs] == [pytest.approx(pair, abs=2e-6) for pair in predicted]
    assert [match[1] for match in pd.found(r"music: (.*)") if match[1] != "7"] == ["1"]
    assert {match[1] for match in pd.found(r"new-quadrant: (.*)")} <= {"1", "2", "3", "4"}
    assert pd.found(r"new-quadrant: .*")
    for axis, name in enumerate(("valence", "arousal")):
        smooth = [float(match[1]) for match in pd.found(rf"smooth-{name}: (.*)")]
        goals = [0.0, *(pair[axis] for pair in predicted)]
        assert len(set(smooth)) > len(predicted)
        assert min(goals) - 2e-6 <= min(smooth) <= max(smooth) <= max(goals) + 2e-6
    assert not [line for line in pd.lines if "error" in line or "couldn't" in line]


def check_supercollider(sclang: Printing, predicted: list[tuple[float, float]], port: int) -> None:
    assert sclang.found("chord: true")
    assert sclang.found(f"realtime-mer is expected on port {port}\\.")
    printed = [(float(m[1]), float(m[2])) for m in sclang.found(r"valence (\S+), arousal (\S+)")]
    assert printed == [pytest.approx(pair, abs=1e-4) for pair in predicted]
    smooth = [(float(m[1]), float(m[2])) for m in sclang.found(r"smooth (\S+) (\S+)")]
    assert len(set(smooth)) > len(predicted) / 2
    largest = max(abs(value) for pair in predicted for value in pair)
    assert max(abs(value) for pair in smooth for value in pair) <= largest + 2e-6
    assert sclang.found(r"now (happy|tense|sad|calm)")
    assert not [line for line in sclang.lines if "ERROR" in line]
