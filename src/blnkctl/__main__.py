"""The entry point: answers `--version` before anything is imported, and leaves without the interpreter's goodbye."""

import os
import sys
from contextlib import suppress


def run() -> None:
    """Run the command line of this process and exit with its code."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        code = _print_version()
    else:
        import gc

        gc.disable()
        _occupy_standard_descriptors()
        _leave_no_core_dump()
        _end_quietly_on_interrupt()
        from blnkctl.cli.main import main
        from blnkctl.system.signals import Interrupted

        try:
            code = main(arguments)
        except Interrupted as again:
            code = 128 + again.number
    _leave(code)


def _print_version() -> int:
    from blnkctl import __version__

    sys.stdout.write(f"blnkctl {__version__}\n")
    return 0


def _end_quietly_on_interrupt() -> None:
    """Let an interrupt end the program as it ends others, without a traceback, until `main` takes it over."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _leave_no_core_dump() -> None:
    """Keep secrets out of core dumps; the command of `keys exec` may raise the limit again."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _occupy_standard_descriptors() -> None:
    """Keep files opened later off descriptors 0 to 2: what is printed must not end up in one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave(code: int) -> None:
    """Flush and go. A closed standard output is no error; a result lost to a full disk is one."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (OSError, ValueError, AttributeError) as error:
        code = code or _result_lost(error)
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    os._exit(code)


def _result_lost(error: Exception) -> int:
    """Say that the result is lost, and return the exit code; a standard output that never was is no loss."""
    if not isinstance(error, OSError):
        return 0
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"error: The result could not be written to standard output: {error.strerror}.\n")
        sys.stderr.write("hint: What the command was to change is changed; only its output is lost.\n")
    return 1


if __name__ == "__main__":
    run()
