"""Reading one variable of an env file, as dotenv and shells write it. Never quotes a value."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from blnkctl.domain.errors import UsageError
from blnkctl.domain.secret import Secret, secret_from_text

_LONGEST = 1 << 20
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_COMMENT = re.compile(r"(?:^|\s)#.*")
_ESCAPED = re.compile(r"\\([\\\"$`])")


@dataclass(frozen=True, slots=True)
class EnvValue:
    """A variable's value; `mode` is the file's where others can read it, else None."""

    secret: Secret
    open_mode: int | None


def read_env_value(path: Path, name: str) -> EnvValue:
    """Return the value that a file gives a variable last. A symbolic link is not followed.

    Raises:
        UsageError: the file cannot be read, or gives it none. UnusableSecret: the value can be no secret.
    """
    content, mode = _read(path)
    values = [value for line in content.splitlines() if (value := _value_of(name, line)) is not None]
    if not values:
        raise UsageError(
            f"The file {path} has no variable {name}. Nothing was stored.",
            code="no_variable",
            hint="Name the variable behind the path: --from env-file:PATH#VAR",
        )
    is_open = bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
    return EnvValue(secret_from_text(values[-1], f"{name} in {path}"), stat.S_IMODE(mode) if is_open else None)


def _read(path: Path) -> tuple[str, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, "it is a symbolic link" if path.is_symlink() else error.strerror) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _unreadable(path, "it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_LONGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LONGEST:
        raise _unreadable(path, "it has more than 1 MiB")
    return content.decode("utf-8-sig", "replace"), mode


def _unreadable(path: Path, reason: str | None) -> UsageError:
    return UsageError(
        f"The file {path} cannot be read: {reason}. Nothing was stored.",
        code="bad_input",
        hint="Name the file itself, one that you can read.",
    )


def _value_of(name: str, line: str) -> str | None:
    """Return the value that a line gives a variable, None where it gives it none."""
    found = _ASSIGNMENT.fullmatch(line.strip())
    if found is None or found[1] != name:
        return None
    text = found[2].strip()
    single, double = _SINGLE.fullmatch(text), _DOUBLE.fullmatch(text)
    if single is not None:
        return single[1]
    if double is not None:
        return _ESCAPED.sub(r"\1", double[1])
    return _COMMENT.sub("", text).rstrip()
