"""`realtime-mer doctor`: whether everything that a run needs is there and works, a line each, with the cure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check says. WARNING: a run works, but not as well as it could, or not all of it. FAILED: it would fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    name: what was looked at; the same words in every version, since programs read them. text: what was found, in a
    line. cure: what to do, in a sentence; nothing where all is well.
    """

    name: str
    verdict: Verdict
    text: str
    cure: str = ""


def ok(name: str, text: str) -> Check:
    """All is well."""
    return Check(name, Verdict.OK, text)


def warning(name: str, text: str, cure: str = "") -> Check:
    """A run works, but not all of it, or not as well as it could."""
    return Check(name, Verdict.WARNING, text, cure)


def failed(name: str, text: str, cure: str = "") -> Check:
    """A run would fail."""
    return Check(name, Verdict.FAILED, text, cure)


def skipped(name: str, text: str) -> Check:
    """The settings do not need it."""
    return Check(name, Verdict.SKIPPED, text)


def told(name: str, error: Exception, *, cure: str = "", verdict: Verdict = Verdict.FAILED) -> Check:
    """An error of this project's says what is wrong in its first sentence, and what to do in the rest.

    Of a list that it ends with, nothing: a report is a line for each check. cure: where it says nothing of that.
    """
    said = str(error).partition("\n")[0].removesuffix(" There are:")
    text, stop, rest = said.partition(". ")
    return Check(name, verdict, text + stop.strip(), rest or cure)
