"""Reading one variable of an env file, for whoever takes a secret from there. Never quotes a value."""

import stat
from dataclasses import dataclass
from pathlib import Path

from blnkctl.adapters.sinks.dotenv import Unclear, value_of
from blnkctl.adapters.sinks.regular_files import read_file
from blnkctl.adapters.sinks.unfit import Unfit, reason_of
from blnkctl.domain.errors import UsageError
from blnkctl.domain.secret import Secret, secret_from_text


@dataclass(frozen=True, slots=True)
class EnvValue:
    """A variable's value; `open_mode` is the file's where others can read it, else None."""

    secret: Secret
    open_mode: int | None


def read_env_value(path: Path, name: str) -> EnvValue:
    """Return the value that a file gives a variable last. A symbolic link is not followed.

    Raises:
        UsageError: the file cannot be read, or gives it none. UnusableSecret: the value can be no secret.
    """
    try:
        mode = path.lstat().st_mode
        text = value_of(read_file(path), name)
    except (Unfit, Unclear, OSError) as problem:
        raise _unreadable(path, reason_of(problem)) from None
    if text is None:
        raise UsageError(
            f"The file {path} has no variable {name}. Nothing was stored.",
            code="no_variable",
            hint="Name the variable behind the path: --from env-file:PATH#VAR",
        )
    is_open = bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
    return EnvValue(secret_from_text(text, f"{name} in {path}"), stat.S_IMODE(mode) if is_open else None)


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"The file {path} cannot be read: {reason}. Nothing was stored.",
        code="bad_input",
        hint="Name the file itself, one that you can read.",
    )
