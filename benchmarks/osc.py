"""Four OSC targets at 60 Hz: how evenly packets leave, and what it costs, also if two of the four misbehave."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import (
    WARM_UP_S,
    BenchmarkError,
    Float64Array,
    Process,
    at_least,
    music_tape,
    options,
    page,
    progress,
    report,
    running,
    table,
)

DEFAULT_SECONDS = 60.0
RATE_HZ = 60.0
_START_TIMEOUT_S = 60.0
# A name that never exists (RFC 2606), so that it is looked up again and again.
_UNKNOWN = "desk.invalid"
# Linux's, which Python's socket has no name for.
_SO_TIMESTAMPNS = 35
_SMOOTH = b"/mer/smooth/va\0"


class _Receivers:
    """Two UDP receivers; when each bundle of smooth values came in, by the kernel's clock, in seconds."""

    def __init__(self) -> None:
        self.arrivals_s: list[list[float]] = [[], []]
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in self.arrivals_s]
        for receiver, arrivals_s in zip(self._sockets, self.arrivals_s, strict=True):
            receiver.bind(("127.0.0.1", 0))
            receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._selector.register(receiver, selectors.EVENT_READ, arrivals_s)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="receivers", daemon=True)
        self._thread.start()

    @property
    def ports(self) -> list[int]:
        return [receiver.getsockname()[1] for receiver in self._sockets]

    def wait(self) -> None:
        """Until both have received something. Raises BenchmarkError if they do not."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not all(self.arrivals_s):
            if time.monotonic() > deadline_s:
                raise BenchmarkError(f"Nothing came within {_START_TIMEOUT_S:.0f} s.")
            time.sleep(0.1)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._selector.close()
        for receiver in self._sockets:
            receiver.close()

    def _receive(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.2):
                assert isinstance(key.fileobj, socket.socket)
                packet, ancillary, _, _ = key.fileobj.recvmsg(65_536, 128)
                if _SMOOTH in packet:
                    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                    key.data.append(seconds + 1e-9 * nanoseconds)


@dataclass(frozen=True, eq=False)
class _Run:
    """intervals_s: of each of the two receivers, after the warm-up. share: of a core."""

    intervals_s: tuple[Float64Array, ...]
    share: float


def measure(music: Path, seconds: float = DEFAULT_SECONDS) -> str:
    """Measures, and returns the section of the report."""
    rows = []
    with music_tape(music, 2.0 * _START_TIMEOUT_S + seconds) as tape:
        progress("osc: no targets")
        rows.append(("no OSC at all", *["-"] * 4, f"{100 * _share_alone(tape, seconds):.1f} %"))
        progress("osc: four targets that listen")
        with _listening_tcp(reads=True) as port:
            healthy = _run(tape, seconds, "127.0.0.1", port)
        progress("osc: one unreachable, one that stops reading")
        with _listening_tcp(reads=False) as port:
            troubled = _run(tape, seconds, _UNKNOWN, port)
    for name, run in (("all four well", healthy), ("third unreachable, fourth not reading", troubled)):
        for number, intervals_s in enumerate(run.intervals_s, start=1):
            share = f"{100 * run.share:.1f} %" if number == 1 else ""
            rows.append((f"{name}: target {number}", *_figures(intervals_s), share))
    return page(
        "## OSC",
        f"""`realtime-mer --input FILE` in real time with four targets at {RATE_HZ:g} Hz, each with the whole address
        space: two on UDP, which are measured, the third on UDP, the fourth on TCP. In the second run the third has a
        name that is never found, and the fourth takes the connection and never reads; the program reported both.
        Intervals between the bundles of smooth values ({1000 / RATE_HZ:.2f} ms each if even) by the kernel's
        time stamps, over {seconds:.0f} s after {WARM_UP_S:.0f} s; CPU time of the process as a share of one core.""",
        table(("run", "bundles/s", "s.d. (ms)", "off by, p99 (ms)", "longest (ms)", "one core"), rows),
    )


def _figures(intervals_s: Float64Array) -> tuple[str, str, str, str]:
    """Bundles per second, standard deviation, 99th percentile of the deviation from even, and the longest."""
    off_s = np.abs(intervals_s - 1.0 / RATE_HZ)
    return (
        f"{1.0 / intervals_s.mean():.2f}",
        f"{1000 * intervals_s.std():.2f}",
        f"{1000 * np.percentile(off_s, 99):.2f}",
        f"{1000 * intervals_s.max():.1f}",
    )


def _run(tape: Path, seconds: float, third_host: str, tcp_port: int) -> _Run:
    with contextlib.closing(_Receivers()) as receivers, _bound_udp() as third_port:
        targets = [
            *(f'{{ host = "127.0.0.1", port = {port}, rate_hz = {RATE_HZ} }}' for port in receivers.ports),
            f'{{ host = "{third_host}", port = {third_port}, rate_hz = {RATE_HZ} }}',
            f'{{ host = "127.0.0.1", port = {tcp_port}, transport = "tcp", rate_hz = {RATE_HZ} }}',
        ]
        with (
            _settings(f"[osc]\ntargets = [{', '.join(targets)}]\n") as path,
            running([*_command(tape), "--config", str(path)], dict(os.environ)) as process,
        ):
            receivers.wait()
            time.sleep(WARM_UP_S)
            n_before = [len(arrivals_s) for arrivals_s in receivers.arrivals_s]
            share = _share(process, seconds)
            received_s = [list(arrivals_s) for arrivals_s in receivers.arrivals_s]
            errors = process.errors()
            if [f"no OSC to {host}" in errors for host in (_UNKNOWN, "tcp ")] != [third_host == _UNKNOWN] * 2:
                raise BenchmarkError(f"Expected targets 3 and 4 to fail in the second run only, got: {errors}")
    return _Run(tuple(np.diff(arrivals_s[n:]) for arrivals_s, n in zip(received_s, n_before, strict=True)), share)


def _share_alone(tape: Path, seconds: float) -> float:
    with running([*_command(tape), "--no-osc"], dict(os.environ)) as process:
        # Nothing is received from it: as long as it takes elsewhere at most.
        time.sleep(2.0 * WARM_UP_S)
        return _share(process, seconds)


def _share(process: Process, seconds: float) -> float:
    """CPU time over time, from now on."""
    before_s, began_s = process.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (process.cpu_s() - before_s) / (time.monotonic() - began_s)


def _command(tape: Path) -> list[str]:
    return ["-m", "realtime_mer", "--input", str(tape), "--no-plot", "--no-terminal"]


@contextlib.contextmanager
def _settings(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        path = Path(folder) / "osc.toml"
        path.write_text(text, encoding="utf-8")
        yield path


@contextlib.contextmanager
def _bound_udp() -> Iterator[int]:
    """A port of 127.0.0.1 that takes packets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        yield receiver.getsockname()[1]


@contextlib.contextmanager
def _listening_tcp(*, reads: bool) -> Iterator[int]:
    """A port of 127.0.0.1 that takes connections, and reads what comes, or does not."""
    closing = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)

        def serve() -> None:
            accepted = []
            while not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    peer, _ = server.accept()
                    peer.settimeout(0.2)
                    accepted.append(peer)
                while reads and accepted and not closing.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not accepted[-1].recv(65_536):
                            break
            for peer in accepted:
                peer.close()

        thread = threading.Thread(target=serve, name="TCP receiver", daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            closing.set()
            thread.join()


def main() -> int:
    """`python -m benchmarks.osc`."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=at_least(5), default=DEFAULT_SECONDS, help="how long, for each of the runs")
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
