"""`blnkctl keys exec`."""

import os
import re
import sys
from typing import Annotated

import typer

from blnkctl.cli.arguments import child_command
from blnkctl.cli.completers import complete_stored_key
from blnkctl.cli.held import secret_reader
from blnkctl.cli.options import application, command
from blnkctl.cli.run import Run
from blnkctl.domain.errors import UsageError
from blnkctl.domain.selectors import parse_key_word
from blnkctl.system.children import child_environment

app = application("Run a command with a key in its environment.", "blnkctl keys exec KEY -- COMMAND")
DEFAULT_VARIABLE = "BLNK_API_KEY"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@command(
    app,
    "exec",
    """
    blnkctl keys exec acme/billing -- ./run-billing
    blnkctl keys exec acme/billing --env LEDGER_KEY -- ./run-billing
    """,
)
def exec_(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="An id, a beginning of one, or OWNER/NAME.", autocompletion=complete_stored_key
        ),
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND…", help="What to run.")] = None,
    env: Annotated[str, typer.Option("--env", metavar="VAR", help="The variable that holds the key.")] = (
        DEFAULT_VARIABLE
    ),
) -> int:
    """Run a command with a key in its environment.

    The key is found by the index and read from the store, without any request. The command takes this program's
    place; it does not inherit the admin key, nor what opens the store.

    Exit codes: the command's own; 126 it cannot be run, 127 not found, 7 the secret is not held here.
    """
    run = Run.of(ctx)
    child = _child(run, words)
    if _VARIABLE.fullmatch(env) is None:
        hint = "Letters, digits and '_', not beginning with a digit."
        raise UsageError(f"--env {env!r} is no name of a variable.", code="bad_variable", hint=hint)
    _, secret = secret_reader(run).run(parse_key_word(key))
    environment = child_environment(run.environment) | {env: secret.reveal()}
    run.close()
    return _become(run, child, environment)


def _child(run: Run, words: list[str] | None) -> list[str]:
    child = child_command(run.arguments)
    if not child or child != words:
        raise UsageError(
            "The command to run must stand behind --.",
            code="no_dashes",
            hint="blnkctl keys exec KEY -- COMMAND [ARGS]…",
        )
    return child


def _become(run: Run, child: list[str], environment: dict[str, str]) -> int:
    """Replace this process by the command; if that fails, say so as a shell would."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    run.signals.release()
    try:
        os.execvpe(child[0], child, environment)  # noqa: S606 (what exec is for)
    except FileNotFoundError:
        run.terminal.fail(UsageError(f"{child[0]}: command not found.", code="command_not_found"))
        return _NOT_FOUND
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        run.terminal.fail(UsageError(f"{child[0]} cannot be run: {reason}.", code="command_not_executable"))
        return _NOT_EXECUTABLE
