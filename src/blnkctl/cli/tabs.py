"""Answers a TAB: finds what may stand at the cursor of a command line that is still being typed.

Knows no shell. Imports only the modules of commands that are named on the line.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typer._click.shell_completion import _resolve_context, _resolve_incomplete

from blnkctl.cli.completers import TAB_VARIABLE
from blnkctl.cli.root import build_root
from blnkctl.cli.run import Run
from blnkctl.cli.shells import SHELLS, Line, Offer
from blnkctl.domain.names import escape_unsafe, is_unsafe


def answer_tab(environment: Mapping[str, str]) -> int:
    """Print what may stand at the cursor, as the shell that asks takes it, and return the exit code.

    Raises:
        Exception: the line or what it is completed from cannot be read; nothing was printed.
    """
    shell = SHELLS[environment[TAB_VARIABLE].removeprefix("complete_")](environment)
    run = Run((), environment)
    try:
        text, code = shell.answer(list(_offers(shell.line, run)))
    finally:
        run.close()
    if text:
        sys.stdout.write(f"{text}\n")
    return code


def _offers(line: Line, run: Run) -> Iterator[Offer]:
    """Yield words that can be offered: data that could be taken for an option, or hides what it is, cannot."""
    words = list(line.words)
    context = _resolve_context(build_root(), {"obj": run}, "blnkctl", words)
    asked, typed = _resolve_incomplete(context, words, line.typed)
    before = line.typed.removesuffix(typed)  # --option= where its value stands in the same word
    for item in asked.shell_complete(context, typed):
        if _is_harmless(item, typed):
            yield Offer(before + item.value, escape_unsafe(item.help or ""))


def _is_harmless(item: Any, typed: str) -> bool:
    looks_like_option = item.value.startswith("-") and not typed.startswith("-")
    return bool(item.value) and not looks_like_option and not any(map(is_unsafe, item.value))
