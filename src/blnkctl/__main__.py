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
        from blnkctl.cli.main import main

        code = main(arguments)
    _leave(code)


def _print_version() -> int:
    from blnkctl import __version__

    sys.stdout.write(f"blnkctl {__version__}\n")
    return 0


def _occupy_standard_descriptors() -> None:
    """Keep files opened later off descriptors 0 to 2: what is printed must not end up in one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave(code: int) -> None:
    """Flush and go. A closed standard output is no error: what was to be done is done."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
