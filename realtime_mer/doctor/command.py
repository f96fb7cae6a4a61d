"""Runs all checks, one after the other, and prints the report."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from realtime_mer import __version__
from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, Verdict, machine, network, software, sound
from realtime_mer.doctor.guard import Checks, guarded

_HANGING_SOUND = "The sound system hangs: restart the sound server, or unplug the device and plug it in again."
_HANGING_DISPLAY = "The display hangs: log in anew, or run with --no-plot."
_HANGING_NAMES = "The name server does not answer: give addresses in numbers."
_HANGING_DISK = "The disk hangs: check that it is still connected."
_HANGING_MACHINE = "The machine is too busy: end other programs, and try again."
# The name for a failure of the check itself, the check, its time limit, and the cure if it hangs.
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


def run(settings: LiveSettings, *, as_json: bool) -> bool:
    """Checks everything that these settings need, and prints the report. Returns whether a run would work."""
    found: list[Check] = []
    for name, checks, timeout_s, if_it_hangs in _ALL:
        for check in map(_without_private, guarded(name, checks, settings, timeout_s, if_it_hangs)):
            found.append(check)
            if not as_json:
                print(line(check), flush=True)
    print(report_json(found) if as_json else f"\n{_summary(found)}")
    return _works(found)


def line(check: Check) -> str:
    """A check for people: its line, and the cure below it."""
    indent = " " * (_VERDICT_CHARACTERS + _NAME_CHARACTERS + 4)
    head = f"{check.verdict:<{_VERDICT_CHARACTERS}}  {check.name:<{_NAME_CHARACTERS}}  "
    text = _wrapped(check.text, head, indent)
    return f"{text}\n{_wrapped(check.cure, f'{indent}-> ', f'{indent}   ')}" if check.cure else text


def report_json(found: Sequence[Check]) -> str:
    """The report for programs: the version, whether a run would work, and all checks."""
    report = {"version": __version__, "works": _works(found), "checks": [asdict(check) for check in found]}
    return json.dumps(report, indent=2, ensure_ascii=False)


def _works(found: Sequence[Check]) -> bool:
    return all(check.verdict is not Verdict.FAILED for check in found)


def _summary(found: Sequence[Check]) -> str:
    verdicts = [check.verdict for check in found]
    if n_failed := verdicts.count(Verdict.FAILED):
        return f"A run would not work: {n_failed} of {len(found)} checks failed; what to do is below each."
    if n_warnings := verdicts.count(Verdict.WARNING):
        return f"A run works; {n_warnings} {'thing' if n_warnings == 1 else 'things'} could be better."
    return "All is well."


def _wrapped(text: str, first: str, indent: str) -> str:
    # A command stays in one piece, to be copied.
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _without_private(check: Check) -> Check:
    """The check without the user's home folder, which holds a name, and without control characters."""
    home = str(Path.home())
    pattern = re.escape(home) + r"(?=$|[/\\\s'\":;,.)])"

    def cleaned(text: str) -> str:
        text = re.sub(pattern, "~", text) if len(home) > 1 else text
        return "".join(character if character.isprintable() else " " for character in text)

    return replace(check, text=cleaned(check.text), cure=cleaned(check.cure))
