"""All checks, one after the other, and their report."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, Verdict, machine, network, software, sound
from realtime_mer.doctor.guard import Checks, guarded

_HANGING_SOUND = "The sound system hangs: restart the sound server, or unplug the device and plug it in again."
_HANGING_DISPLAY = "The display hangs: log in anew, or run with --no-plot."
_HANGING_NAMES = "The name server does not answer: give addresses in numbers."
_HANGING_DISK = "The disk hangs: look whether it is still there."
_HANGING_MACHINE = "The machine is too busy: end other programs, and look again."
# What a failure of the looking itself is named after, what looks, how long that may take, and the cure where it hangs.
_ALL: tuple[tuple[str, Checks, float, str], ...] = (
    ("program", software.program, 20.0, _HANGING_DISK),
    ("PortAudio", sound.inputs, 20.0, _HANGING_SOUND),
    ("level", sound.level, 30.0, _HANGING_SOUND),
    ("openSMILE", software.opensmile, 30.0, _HANGING_MACHINE),
    ("model", software.model, 60.0, _HANGING_MACHINE),
    ("headroom", machine.headroom, 120.0, _HANGING_MACHINE),
    ("clock", machine.scheduling, 20.0, _HANGING_MACHINE),
    ("window", software.window, 60.0, _HANGING_DISPLAY),
    ("OSC target", network.targets, 30.0, _HANGING_NAMES),
    ("control port", network.listening, 30.0, _HANGING_NAMES),
    ("recording", software.recording, 20.0, _HANGING_DISK),
    ("log", software.log, 20.0, _HANGING_DISK),
    ("ffmpeg", software.ffmpeg, 20.0, _HANGING_DISK),
)
_NAME_CHARACTERS, _VERDICT_CHARACTERS = 13, 7
_WIDTH = 120
_INDENT = " " * (_VERDICT_CHARACTERS + _NAME_CHARACTERS + 4)


def run(settings: LiveSettings, *, as_json: bool) -> bool:
    """Looks at everything that these settings need, and prints what it finds. Whether a run would work."""
    found: list[Check] = []
    for check in _discreet(_found(settings)):
        found.append(check)
        if not as_json:
            print(line(check), flush=True)
    works = not any(check.verdict is Verdict.FAILED for check in found)
    if as_json:
        print(report_json(found))
        return works
    n_warnings = sum(check.verdict is Verdict.WARNING for check in found)
    n_failed = sum(check.verdict is Verdict.FAILED for check in found)
    if not works:
        print(f"\nA run would not work: {n_failed} of {len(found)} checks failed; what to do stands below each.")
    elif n_warnings:
        print(f"\nA run works; {n_warnings} {'thing' if n_warnings == 1 else 'things'} could be better.")
    else:
        print("\nAll is well.")
    return works


def line(check: Check) -> str:
    """A check as people read it: its line, and the cure below."""
    head = f"{check.verdict:<{_VERDICT_CHARACTERS}}  {check.name:<{_NAME_CHARACTERS}}  "
    told = _wrapped(check.text, head, _INDENT)
    return f"{told}\n{_wrapped(check.cure, f'{_INDENT}-> ', f'{_INDENT}   ')}" if check.cure else told


def report_json(found: Sequence[Check]) -> str:
    """The same for programs: the version, whether a run would work, and of every check name, verdict, text and cure."""
    return json.dumps(
        {
            "version": __version__,
            "works": not any(check.verdict is Verdict.FAILED for check in found),
            "checks": [
                {"name": check.name, "verdict": str(check.verdict), "text": check.text, "cure": check.cure}
                for check in found
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _wrapped(text: str, first: str, indent: str) -> str:
    # A command that can be copied stays in one piece.
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _found(settings: LiveSettings) -> Iterator[Check]:
    for name, checks, timeout_s, if_it_hangs in _ALL:
        yield from guarded(name, checks, settings, timeout_s, if_it_hangs)


def _discreet(checks: Iterator[Check]) -> Iterator[Check]:
    """Without the user's folder, which holds a name, in any text; and without what moves a terminal's cursor."""
    home = str(Path.home())
    hidden = re.compile(re.escape(home) + r"(?=$|[/\\\s'\":;,.)])") if len(home) > 1 else None
    for check in checks:
        text, cure = (
            "".join(c if c.isprintable() else " " for c in (said if hidden is None else hidden.sub("~", said)))
            for said in (check.text, check.cure)
        )
        yield Check(check.name, check.verdict, text, cure)
