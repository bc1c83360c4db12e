"""Reading an admin key from where it is kept: a file, or the output of a program started without a shell."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from blnkctl.domain.errors import NotConfigured
from blnkctl.domain.secret import Secret, secret_from_text
from blnkctl.system.children import child_environment

COMMAND_SECONDS = 60.0
_LONGEST = 64 * 1024


def read_key_file(path: Path) -> Secret:
    """Return the key in a file.

    Raises:
        NotConfigured: it cannot be read. UnusableSecret: it holds something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST)
    except OSError as error:
        raise _unreadable(f"The admin key's file {path} cannot be read: {error.strerror}.") from None
    return secret_from_text(content.decode("utf-8", "replace"), f"the file {path}")


def run_key_command(command: str, environment: Mapping[str, str]) -> Secret:
    """Return the key that a program prints. It gets no standard input and none of blnkctl's own secrets.

    Raises:
        NotConfigured: it cannot be started, fails, or takes more than a minute.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _unreadable(f"The admin key's command cannot be split into words: {error}.") from None
    if not words:
        raise _unreadable("The admin key's command is empty.")
    try:
        done = subprocess.run(  # noqa: S603 (the operator's own command, without a shell)
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=child_environment(environment),
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except OSError as error:
        raise _unreadable(f"The admin key's command {words[0]!r} cannot be started: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise _unreadable(f"The admin key's command took more than {COMMAND_SECONDS:g} s.") from None
    if done.returncode != 0:
        raise _unreadable(f"The admin key's command {words[0]!r} ended with {done.returncode}.")
    return secret_from_text(done.stdout.decode("utf-8", "replace"), "the admin key's command")


def _unreadable(message: str) -> NotConfigured:
    return NotConfigured(message, code="no_admin_key", hint="Mend it, or set BLNKCTL_ADMIN_KEY for this one command.")
