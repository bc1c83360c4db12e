"""A TAB in real shells: what is completed, and that names from elsewhere arrive as data."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.index import configure, known, remember
from tests.conftest import Blnkctl
from tests.programs import program

# Newer Pythons warn of a fork beside other threads; the child only execs.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HOSTILE = (
    "h1/$(touch PWNED) `touch PWNED`; touch PWNED & touch PWNED",
    'h2/it\'s "so"  \\$(touch PWNED) \\',
    "h3/a:b=c@d*?[x]~!#{1,2}$HOME",
    "h4/ünï <(touch PWNED) | 日本",
)
STARTS = {
    "bash": (
        ("--norc", "--noprofile", "-i"),
        "bind 'set enable-bracketed-paste off'; source /usr/share/bash-completion/bash_completion",
    ),
    "zsh": (
        ("-f", "-i"),
        "unset zle_bracketed_paste; bindkey -e; fpath=({directory} $fpath); autoload -Uz compinit; compinit -D",
    ),
    "fish": (("-i",), "function fish_greeting; end"),
}


class Person:
    """Somebody who types into a shell in a directory of its own."""

    def __init__(self, shell: str, machine: Blnkctl) -> None:
        self.machine = machine
        installed = machine.run("completion", shell, "--install", "-o", "json")
        path = Path(json.loads(installed.out)["data"]["path"])
        words, first = STARTS[shell]
        if shell == "bash":
            program("dh_bash-completion")
        self._child = pexpect.spawn(
            program(shell),
            list(words),
            env=machine.environment | {"TERM": "xterm", "LC_ALL": "C.UTF-8"},
            cwd=str(machine.home / "empty"),
            encoding="utf-8",
            dimensions=(24, 250),
            timeout=20,
        )
        self._child.delaybeforesend = None
        self.runs(first.replace("{directory}", str(path.parent)))

    def runs(self, line: str, before: str = "") -> str:
        """Type a line, and at last what comes before it; return what is printed when it runs."""
        self._child.send(f"{line}; echo '@e'nd@{before}\r")
        self._child.expect_exact("@end@\r\n")
        return str(self._child.before)

    def completes(self, typed: str) -> list[str]:
        """Type a line and a TAB, and return the words that the shell then understands."""
        path = self.machine.home / "words"
        self.runs(f"{typed}\t > {path}", before="\x01printf '%s\\n' ")
        return path.read_text().splitlines()

    def leaves(self) -> None:
        """Leave the shell."""
        self._child.close(force=True)


@pytest.fixture
def machine(blnkctl: Blnkctl) -> Blnkctl:
    """Return a machine with contexts, an index, and the program on its PATH; its server does not exist."""
    configure(blnkctl, "prod", "staging")
    remember(blnkctl, [known("acme", "billing"), *(known(*name.split("/", 1)) for name in HOSTILE)])
    for name in (
        "bin",
        "empty",
        ".local/share/fish/generated_completions",
    ):  # the last, or fish would make it for long
        (blnkctl.home / name).mkdir(parents=True)
    command = blnkctl.home / "bin" / "blnkctl"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m blnkctl "$@"\n')
    command.chmod(0o755)
    blnkctl.environment["PATH"] = f"{command.parent}:{blnkctl.environment['PATH']}"
    return blnkctl


@pytest.fixture(params=list(STARTS))
def person(request: pytest.FixtureRequest, machine: Blnkctl) -> Iterator[Person]:
    """Return somebody at each shell."""
    person = Person(request.param, machine)
    yield person
    person.leaves()


def test_commands_options_and_values_are_completed(person: Person) -> None:
    assert person.completes("blnkctl ke") == ["blnkctl", "keys"]
    assert person.completes("blnkctl keys list --own") == ["blnkctl", "keys", "list", "--owner"]
    assert person.completes("blnkctl keys show --context st") == ["blnkctl", "keys", "show", "--context", "staging"]
    assert person.completes("blnkctl keys show ac") == ["blnkctl", "keys", "show", "acme/billing"]
    assert person.completes("blnkctl keys show --context=st")[-1] == "--context=staging"
    assert person.completes("blnkctl keys create x --scope a:b,ledgers:re")[-1] == "a:b,ledgers:read"


def test_names_from_elsewhere_arrive_as_data(person: Person) -> None:
    for name in HOSTILE:
        assert person.completes(f"blnkctl keys show {name[:3]}") == ["blnkctl", "keys", "show", name]

    assert list((person.machine.home / "empty").iterdir()) == []
