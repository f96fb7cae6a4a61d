"""The network fails: the target reports it and recovers by itself; every other target gets everything meanwhile.

With real sockets, and as root in a network namespace whose interface goes down. For single targets, unknown names and
name servers that hang see test_osc_transports.py and test_osc_sink.py.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from osc_sockets import HERE, eventually, receiving

from realtime_mer.config import TargetSettings
from realtime_mer.osc import sink as sink_module
from realtime_mer.osc.messages import read_packet
from realtime_mer.osc.sink import OscSink
from realtime_mer.osc.transports import Timeouts, open_output
from realtime_mer.types import Prediction
from realtime_mer.updates import Update

ROOT = Path(__file__).resolve().parents[1]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports returned packets")
FRAMES = ("frame",)
UPDATE = Update(0, Prediction(1.0, 0.25, -0.5), False, 0.1)


@linux_only
def test_a_receiver_that_ends_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "open_output", lambda target: open_output(target, Timeouts(quiet_s=0.1)))
    n_sent = 0
    with receiving() as gone:
        port = gone.port
    with receiving() as receiver:
        targets = [TargetSettings(port=port, send=FRAMES), TargetSettings(port=receiver.port, send=FRAMES)]
        with contextlib.closing(OscSink(targets)) as sink:

            def shows(status: str) -> bool:
                nonlocal n_sent
                sink.update(replace(UPDATE, index=n_sent))
                n_sent += 1
                return list(map(str, sink.target_statuses())) == [status, f"{HERE}:{receiver.port}"]

            eventually(lambda: shows(f"{HERE}:{port} (nothing listens there)"))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
                back.bind((HERE, port))
                eventually(lambda: shows(f"{HERE}:{port}"))
                assert back.recv(1000)
            eventually(lambda: shows(f"{HERE}:{port} (nothing listens there)"))
        frames = [message.values[0] for datagram in receiver.drain() for message in read_packet(datagram)]
    assert frames == list(range(n_sent))


# Ends with 77 if a network namespace or such an interface is not allowed.
IN_A_NETWORK_OF_ITS_OWN = """
import socket, subprocess, sys, time
from dataclasses import replace
from realtime_mer.config import TargetSettings
from realtime_mer.osc.messages import read_packet
from realtime_mer.osc.sink import OscSink
from realtime_mer.types import Prediction
from realtime_mer.updates import Update

def ip(arguments):
    return subprocess.run(["ip", *arguments.split()], capture_output=True).returncode == 0

if not (ip("link set lo up") and any(ip("link add stage type " + kind) for kind in ("dummy", "ifb"))):
    sys.exit(77)
assert ip("addr add 10.77.0.1/24 dev stage")
assert ip("link set stage up")

receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
receiver.bind(("127.0.0.1", 0))
receiver.settimeout(30)
port = receiver.getsockname()[1]
desk, here = "10.77.0.2:9000", f"127.0.0.1:{port}"
sink = OscSink([TargetSettings("10.77.0.2", 9000, send=("frame",)), TargetSettings(port=port, send=("frame",))])
update = Update(0, Prediction(1.0, 0.25, -0.5), False, 0.1)
n_sent = 0

def until(condition, what):
    global n_sent
    give_up_s = time.monotonic() + 30
    while not condition(*map(str, sink.target_statuses())):
        assert time.monotonic() < give_up_s, (what, sink.target_statuses())
        sink.update(replace(update, index=n_sent))
        (message,) = read_packet(receiver.recv(1000))
        assert message.values[0] == n_sent
        n_sent += 1
        time.sleep(0.02)

until(lambda stage, other: (stage, other) == (desk, here), "all well")
assert ip("link set stage down")
until(lambda stage, other: "not sending: Network is unreachable" in stage and other == here, "the interface is down")
assert ip("link set stage up")
until(lambda stage, other: "not sending" not in stage and other == here, "the interface is up again")
assert ip("link del stage")
until(lambda stage, other: "not sending: Network is unreachable" in stage and other == here, "the interface is gone")
sink.close()
print(n_sent)
"""


@pytest.mark.slow
@linux_only
def test_a_network_interface_that_goes_down_and_comes_back() -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no unshare and ip here (Debian's util-linux and iproute2)")
    command = ["unshare", "--net", sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120.0, check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare: "):
        pytest.skip(f"no right to a network of one's own, or no interface for it: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
