"""Finds misspelt options and commands before argparse does, which would dump the usage and often name another word."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from realtime_mer.errors import nearest, printable

_OPTION = re.compile(r"--?[A-Za-z]")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are two lines, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)}\n`{self.prog} --help` lists what there is.\n")


def check_words(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Exits with an error if an option or the command does not exist. It names the nearest one."""
    words = iter(arguments)
    top = parser
    for word in words:
        if word == "--":
            return
        if _OPTION.match(word) is None:
            commands = _commands(parser)
            if not commands:
                continue
            if word not in commands:
                parser.error(_no_command(word, commands))
            parser = commands[word]
            continue
        flag, equals, _ = word.partition("=")
        # argparse accepts the beginning of an option too, if there is only one.
        action = _options(parser).get(flag) or next(
            (action for name, action in _options(parser).items() if name.startswith(flag) and flag[:2] == "--"), None
        )
        if action is None:
            parser.error(_no_option(flag, parser, top))
        if action.nargs is None and not equals:
            next(words, None)


def _no_option(flag: str, parser: argparse.ArgumentParser, top: argparse.ArgumentParser) -> str:
    near = nearest(f"--{flag.lstrip('-')}", _options(parser))
    elsewhere = [other.prog for other in (top, *_commands(top).values()) if flag in _options(other)]
    hint = ""
    if elsewhere:
        hint = f" It is an option of `{elsewhere[0]}`."
    elif near:
        hint = f" Did you mean {near}?"
    return f"there is no option {flag}.{hint}"


def _no_command(word: str, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    # Late: this imports libraries.
    from realtime_mer.sources.reading import AUDIO_SUFFIXES

    path = Path(word)
    quoted = shlex.quote(word)
    if path.is_dir():
        return (
            f"{word} is a folder, not a command. To predict the files in it: realtime-mer predict {quoted} --output DIR"
        )
    if path.suffix.lower() in AUDIO_SUFFIXES or path.exists() or "/" in word:
        return (
            f"{word} is a file, not a command. To play it through the live run: realtime-mer --input {quoted}; "
            f"to predict it at once: realtime-mer predict {quoted}"
        )
    near = nearest(word, commands)
    hint = f"Did you mean {near}?" if near else f"There are: {', '.join(commands)}."
    return f"there is no command {word!r}. {hint}"


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: action for action in parser._actions for name in action.option_strings}


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return dict(_choices(parser))


def _choices(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
