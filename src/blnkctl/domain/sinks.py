"""Where a key is delivered to: the text behind `--to` and `--from`, and what is filled into it.

Knows no files and no programs. Braces stand for values; a brace itself is written twice: `{{` and `}}`. What a value
may hold does not depend on what the place is good at: names come from the server, and must not be able to leave a
directory, become an option, or mean anything to a shell that a command hands them to.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from blnkctl.domain.errors import UsageError
from blnkctl.domain.names import escape_unsafe, is_unsafe

ENV_FILE, COMMAND = "env-file", "command"
DEFAULT_VARIABLE = "BLNK_API_KEY"
PLACEHOLDERS = ("owner", "name", "id", "context")
_FORMS = "env-file:PATH[#VAR], command:PROGRAM ARGUMENTS…"
_INSTEAD = "Use {id} instead, or write the place out."
_EXAMPLE = f"Sinks: {_FORMS}. Example: 'env-file:/srv/billing/.env#BLNK_API_KEY'"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PART_OF_VARIABLE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_MEANS_NOTHING_TO_A_SHELL = re.compile(r"[\w.,:@%+=-]+")
_BEGINS_A_WORD = re.compile(r"\w")
_PIECE = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}|([{}])|([^{}]+)")


@dataclass(frozen=True, slots=True)
class SinkValues:
    """What placeholders stand for. While a key is still to be made, another id stands in for its own."""

    owner: str
    name: str
    id: str
    context: str

    def by_placeholder(self) -> dict[str, str]:
        """Return the values by the names that they have in braces."""
        return {"owner": self.owner, "name": self.name, "id": self.id, "context": self.context}


@dataclass(frozen=True, slots=True)
class FilledSink:
    """A sink for one key. `parts` are path and variable of an env file, or the words of a command."""

    kind: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinkAddress:
    """A sink as it was named. Its text, `str(address)`, is what is remembered, and reads as the same address."""

    kind: str
    template: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.template}"

    @property
    def placeholders(self) -> frozenset[str]:
        """What has to be filled in."""
        pieces = (piece for part in self._parts() for piece in _pieces(part))
        return frozenset(piece.text for piece in pieces if piece.placeholder)

    def anchored(self, directory: PurePath, home: PurePath) -> "SinkAddress":
        """Return the address that means the same in every directory: it will be used again from another one."""
        if self.kind == ENV_FILE:
            path, variable = self._parts()
            return SinkAddress(self.kind, f"{_anchored(path, directory, home)}#{variable}")
        program, *arguments = self._parts()
        if "/" not in program or program.startswith("/"):
            return self
        return SinkAddress(self.kind, shlex.join([_anchored(program, directory, home), *arguments]))

    def filled(self, values: SinkValues) -> FilledSink:
        """Return the sink of one key.

        Raises:
            UsageError: a value may not stand where its placeholder does.
        """
        given = values.by_placeholder()
        if self.kind == ENV_FILE:
            path, variable = self._parts()
            return FilledSink(self.kind, (_fill(path, given, _check_in_path), _fill_variable(variable, given)))
        return FilledSink(self.kind, tuple(_fill_word(word, given) for word in self._parts()))

    def _parts(self) -> tuple[str, ...]:
        """Return what is filled part by part: path and variable, or the words."""
        if self.kind == ENV_FILE:
            path, _, variable = self.template.rpartition("#")
            return path, variable
        return tuple(shlex.split(self.template))


def parse_sink(text: str) -> SinkAddress:
    """Read a sink as it is typed or remembered.

    Raises:
        UsageError: it is none.
    """
    kind, colon, template = text.partition(":")
    if not colon or kind not in _PARSERS:
        raise UsageError(f"{_shown(text)} names no kind of sink; nothing was sent.", code="bad_sink", hint=_EXAMPLE)
    return SinkAddress(kind, _PARSERS[kind](template))


# --- what is typed ------------------------------------------------------------------------------


def _parse_env_file(template: str) -> str:
    """Return PATH#VAR. What follows the last `#` is a variable, unless it holds a slash."""
    path, hash_, variable = template.rpartition("#")
    if not hash_ or "/" in variable:
        path, variable = template, DEFAULT_VARIABLE
    if path.rpartition("/")[2] in ("", ".", "..") or any(is_unsafe(character) for character in path):
        raise _bad_sink(f"{_shown(path)} is no path of a file")
    if path.startswith("~") and not path.startswith("~/"):
        raise _bad_sink(f"{_shown(path)} would need the home of another user; write it out")
    _check_placeholders(path, variable)
    if _VARIABLE.fullmatch(_without_placeholders(variable)) is None:
        raise _bad_sink(f"{_shown(variable)} is no name of a variable (letters, digits and '_')")
    return f"{PurePosixPath(path)}#{variable}"


def _without_placeholders(variable: str) -> str:
    return "".join("x" if piece.placeholder else piece.text for piece in _pieces(variable))


def _parse_command(template: str) -> str:
    if any(is_unsafe(character) and character not in "\n\t" for character in template):
        raise _bad_sink("The command holds a control or bidirectional character")
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise _bad_sink(f"The command cannot be split into words ({error})") from None
    if not words or not words[0]:
        raise _bad_sink("The command is empty")
    _check_placeholders(*words)
    if any(piece.placeholder for piece in _pieces(words[0])):
        raise _bad_sink("The program itself cannot be a placeholder: a key's name would choose what is run")
    return template.lstrip(" \t\n")


_PARSERS: Mapping[str, Callable[[str], str]] = {ENV_FILE: _parse_env_file, COMMAND: _parse_command}


def _anchored(path: str, directory: PurePath, home: PurePath) -> str:
    base = home if path.startswith("~/") else directory
    escaped = str(base).replace("{", "{{").replace("}", "}}")
    return str(PurePosixPath(escaped, path.removeprefix("~/")))


def _bad_sink(what: str) -> UsageError:
    return UsageError(f"{what}; nothing was sent.", code="bad_sink", hint=_EXAMPLE)


# --- placeholders -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Literal text, or the name in a pair of braces."""

    text: str
    placeholder: bool = False


def _pieces(template: str) -> Iterator[_Piece]:
    for doubled, name, lone, text in _PIECE.findall(template):
        if doubled or text:
            yield _Piece(doubled[:1] or text)
        else:
            yield _Piece(lone or name, placeholder=True)


def _check_placeholders(*templates: str) -> None:
    for piece in (piece for template in templates for piece in _pieces(template)):
        if piece.placeholder and piece.text not in PLACEHOLDERS:
            raise _unknown_placeholder(piece.text)


def _unknown_placeholder(text: str) -> UsageError:
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    what = "A brace stands alone" if text in ("{", "}") else f"{_shown(f'{{{text}}}')} stands for nothing"
    return UsageError(
        f"{what}; nothing was sent.",
        code="bad_sink",
        hint=f"Filled in are {known}. A brace itself is written twice: {{{{ and }}}}.",
    )


def _fill(template: str, values: Mapping[str, str], check: Callable[[str, str], None]) -> str:
    filled = []
    for piece in _pieces(template):
        text = values[piece.text] if piece.placeholder else piece.text
        if piece.placeholder:
            check(piece.text, text)
        filled.append(text)
    return "".join(filled)


def _fill_variable(template: str, values: Mapping[str, str]) -> str:
    variable = _fill(template, values, _check_in_variable)
    if _VARIABLE.fullmatch(variable) is None:
        raise _no_variable(variable)
    return variable


def _fill_word(template: str, values: Mapping[str, str]) -> str:
    word = _fill(template, values, _check_in_command)
    first = next(_pieces(template), None)
    if first is not None and first.placeholder and _BEGINS_A_WORD.match(word) is None:
        raise _unsafe_in_command(f"begin a word of a command with {_shown(word[0])}", first.text, word)
    return word


def _check_in_path(placeholder: str, value: str) -> None:
    if _is_no_name_of_a_file(value):
        raise UsageError(
            f"The {placeholder} {_shown(value)} may not stand in a path; nothing was sent.",
            code="unsafe_in_path",
            hint=_INSTEAD,
        )


def _check_in_command(placeholder: str, value: str) -> None:
    if _is_no_name_of_a_file(value) or _MEANS_NOTHING_TO_A_SHELL.fullmatch(value) is None:
        raise _unsafe_in_command("stand in a command", placeholder, value)


def _check_in_variable(_placeholder: str, value: str) -> None:
    if _PART_OF_VARIABLE.fullmatch(value) is None:
        raise _no_variable(value)


def _is_no_name_of_a_file(value: str) -> bool:
    return value in ("", ".", "..") or "/" in value or any(is_unsafe(character) for character in value)


def _unsafe_in_command(what: str, placeholder: str, value: str) -> UsageError:
    return UsageError(
        f"The {placeholder} {_shown(value)} may not {what}; nothing was sent.",
        code="unsafe_in_command",
        hint=_INSTEAD,
    )


def _no_variable(text: str) -> UsageError:
    return UsageError(
        f"{_shown(text)} is no name of a variable; nothing was sent.",
        code="bad_variable",
        hint="Letters, digits and '_', not beginning with a digit. Write the variable out.",
    )


def _shown(text: str) -> str:
    return f"'{escape_unsafe(text)}'"
