"""The error boundary: argv in, exit code out; every failure as words on standard error and, if asked, as JSON."""

import os
from collections.abc import Mapping, Sequence

import typer

from blnkctl.cli.arguments import known_prefix, last_format
from blnkctl.cli.completers import TAB_VARIABLE
from blnkctl.cli.exits import BUG, exit_code
from blnkctl.cli.output import Output
from blnkctl.cli.root import build_root
from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.system.signals import Interrupted


def main(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run one command line and return its exit code."""
    given = list(arguments)
    variables = os.environ if environment is None else environment
    if not given and variables.get(TAB_VARIABLE, "").startswith("complete_"):
        return _answer_tab(variables)
    run = Run(given, variables)
    run.signals.install()
    try:
        return _finish(run, _call(run, given))
    except Interrupted as interrupted:
        return _interrupted(run, given, interrupted.number)
    except BlnkctlError as error:
        return _failed(run, given, error)
    except typer.TyperException as error:
        return _failed(run, given, _usage(error, given))
    except (typer.Abort, EOFError):
        return _failed(run, given, UsageError("The input ended early.", code="input_ended"))
    except Exception as error:  # noqa: BLE001 (the one boundary: whatever escaped is a bug, told without its values)
        return _bug(run, given, error)
    finally:
        run.close()
        run.signals.restore()


def _answer_tab(environment: Mapping[str, str]) -> int:
    from blnkctl.cli.tabs import answer_tab

    try:
        return answer_tab(environment)
    except Exception:  # noqa: BLE001 (on a TAB: whatever went wrong, no words are the answer, and silence)
        return 1


def _call(run: Run, arguments: list[str]) -> int:
    """Run a command; without a variable's name Typer looks for no TAB in the environment."""
    code = build_root().main(args=arguments, prog_name="blnkctl", complete_var="", standalone_mode=False, obj=run)
    return code if isinstance(code, int) else 0


def _finish(run: Run, code: int) -> int:
    """A signal that had to wait for a step ends the program now that the step's outcome was told."""
    number = run.signals.received
    if number is None:
        return code or int(run.terminal.has_lost_result)
    run.terminal.note("Interrupted, after the step in flight was finished.")
    return 128 + number


def _interrupted(run: Run, arguments: list[str], number: int) -> int:
    from shlex import join  # here, as every command would pay for it

    message = "Interrupted. What was begun is recorded."
    again = escape_unsafe(join(["blnkctl", *arguments]))
    hint = f"To go on: {again}" if run.is_gone_on_with else "To settle it: blnkctl recover"
    error = BlnkctlError(message, code="interrupted", hint=hint)
    run.terminal.fail(error)
    _output(run, arguments).write_failure(error)
    return 128 + number


def _failed(run: Run, arguments: list[str], error: BlnkctlError) -> int:
    run.terminal.fail(error)
    _output(run, arguments).write_failure(error)
    return exit_code(error)


def _output(run: Run, arguments: list[str]) -> Output:
    chosen = (
        run.flags.output or last_format(arguments) or last_format(["-o", run.environment.get("BLNKCTL_OUTPUT", "")])
    )
    return Output(run.terminal, run.command or known_prefix(arguments), chosen)


def _usage(error: typer.TyperException, arguments: list[str]) -> UsageError:
    path = " ".join(["blnkctl", *known_prefix(arguments).split()])
    return UsageError(escape_unsafe(error.format_message()), hint=f"{path} --help")


def _bug(run: Run, arguments: list[str], error: Exception) -> int:
    """Say that this is our fault. The exception's text may quote a value, so it is shown only under --debug."""
    if run.flags.debug:
        import traceback

        run.terminal.trace("".join(traceback.format_exception(error)).rstrip())
    failure = BlnkctlError(
        f"blnkctl met a bug of its own ({type(error).__name__}). What was begun is recorded.",
        code="bug",
        hint="Run `blnkctl recover`, then report this with the output of the same command under --debug.",
    )
    run.terminal.fail(failure)
    _output(run, arguments).write_failure(failure)
    return BUG
