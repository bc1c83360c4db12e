"""The kinds of sinks that the contract's tests run on. Another sink joins by one more entry in `KINDS`."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blnkctl.adapters.locks import LockDirectory
from blnkctl.adapters.sinks.factory import SinkFactory
from blnkctl.domain.secret import Secret
from blnkctl.domain.sinks import SinkValues, parse_sink
from blnkctl.ports import Sink

KEY_ID = "api_key_0b1c5f9e-3f0f-4a53-9d58-2e1f6a1e8d11"
SECRET = Secret("3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I=")
OTHER = Secret("Z66o-IyysaaLiDilkkIIzP4dm53lTZpMLH93GFBsSl_=")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BLNKCTL_ADMIN_KEY": "held-back-from-children"}


@dataclass(frozen=True)
class SinkKind:
    """How a sink in a directory is named, what it holds for a key's name, and how it is made to fail."""

    address: Callable[[Path], str]
    content: Callable[[Path, str], str | None]
    spoil: Callable[[Path], None]
    can_be_read_back: bool


def open_sink(text: str, directory: Path, name: str = "billing", told: list[str] | None = None) -> Sink:
    """Open a sink as a new process does, with its locks below a directory."""
    heard: list[str] = [] if told is None else told
    factory = SinkFactory(ENVIRONMENT, lambda: LockDirectory(directory / "locks"), heard.append)
    return factory.open(parse_sink(text).filled(SinkValues("acme", name, KEY_ID, "prod")))


def _variable(directory: Path, name: str) -> str | None:
    path = directory / "place" / f"{name}.env"
    return path.read_text().removeprefix("KEY=").removesuffix("\n") if path.exists() else None


def _file(directory: Path, name: str) -> str | None:
    path = directory / "place" / name
    return path.read_text() if path.exists() else None


def _take_away(directory: Path) -> None:
    (directory / "place").rename(directory / "gone")


def _take_program_away(directory: Path) -> None:
    (directory / "place" / "keep").unlink()


def make_place(directory: Path) -> None:
    """Make the directory that sinks write into, and a program that writes there."""
    (directory / "place").mkdir()
    program = directory / "place" / "keep"
    program.write_text('#!/bin/sh\ncat > "$1.new" && mv "$1.new" "$1"\n')
    program.chmod(0o700)


KINDS = {
    "env-file": SinkKind(lambda at: f"env-file:{at}/place/{{name}}.env#KEY", _variable, _take_away, True),
    "command": SinkKind(lambda at: f"command:{at}/place/keep {at}/place/{{name}}", _file, _take_program_away, False),
}


def deliver_many(kind: str, directory: Path, secret: str, count: int) -> None:
    """Deliver the same secret to one place again and again."""
    for _ in range(count):
        open_sink(KINDS[kind].address(directory), directory).deliver(Secret(secret))


if __name__ == "__main__":
    deliver_many(sys.argv[1], Path(sys.argv[2]), sys.stdin.read(), int(sys.argv[3]))
