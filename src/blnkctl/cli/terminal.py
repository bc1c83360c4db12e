"""The person at the other end: is somebody there, what do they answer, what are they told. Standard error only."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from blnkctl.domain.errors import BlnkctlError, Declined
from blnkctl.domain.names import harmless
from blnkctl.domain.secret import Secret, mask_keys, secret_from_text

_QUIET_INTERVAL = 10.0
_RED, _YELLOW, _BOLD, _PLAIN = "\033[31m", "\033[33m", "\033[1m", "\033[0m"


@dataclass(slots=True)
class Manners:
    """How the person wants to be spoken to; filled from flags and environment."""

    no_input: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False


class Bar(Protocol):
    """What is drawn anew, again and again, and can be told not to be for a while."""

    def start(self) -> None:
        """Draw it."""

    def stop(self) -> None:
        """Wipe it away."""


class Terminal:
    """A `Reporter` and a source of answers."""

    def __init__(self, environment: Mapping[str, str], manners: Manners) -> None:
        self._environment = environment
        self.manners = manners
        self.has_lost_result = False
        self._bar: Bar | None = None

    @property
    def is_attended(self) -> bool:
        """Whether somebody is there: standard input and error are terminals, and nothing says otherwise."""
        is_ci = _is_on(self._environment, "CI")
        is_silenced = self.manners.no_input or _is_on(self._environment, "BLNKCTL_NO_INPUT") or is_ci
        return not is_silenced and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)

    @property
    def is_watched(self) -> bool:
        """Whether somebody sees what is told: standard error is a terminal."""
        return _is_terminal(sys.stderr)

    @property
    def shows_tables(self) -> bool:
        """Whether standard output is a terminal."""
        return _is_terminal(sys.stdout)

    @property
    def has_colour(self) -> bool:
        """Whether standard error may be coloured."""
        return self.may_colour(sys.stderr)

    def may_colour(self, stream: object) -> bool:
        """Whether a stream may be coloured: a terminal, no NO_COLOR, not dumb."""
        is_plain = bool(self._environment.get("NO_COLOR")) or self._environment.get("TERM") == "dumb"
        return _is_terminal(stream) and not is_plain

    # --- telling ------------------------------------------------------------------------------

    def note(self, sentence: str) -> None:
        """Say something worth knowing, unless it is to be quiet."""
        if not self.manners.quiet:
            self._say(harmless(sentence))

    def say_waiting(self, sentence: str) -> None:
        """Say what is waited for, unless a bar shows that something goes on."""
        if self._bar is None:
            self.note(sentence)

    def tell(self, line: str) -> None:
        """Say what a question is about: never left out."""
        self._say(harmless(line))

    def warn(self, sentence: str) -> None:
        """Say something worth acting on."""
        self._say(f"{self._paint('warning:', _YELLOW)} {harmless(sentence)}")

    def fail(self, error: BlnkctlError) -> None:
        """Say what went wrong and what to type next."""
        self._say(f"{self._paint('error:', _RED)} {harmless(error.message)}")
        if error.hint is not None:
            self._say(f"{self._paint('hint:', _BOLD)} {harmless(error.hint)}")

    def lose_result(self, reason: str) -> None:
        """Say, once, that standard output took no more: the program's exit code must tell it as well."""
        if not self.has_lost_result:
            message = f"The result could not be written to standard output: {reason}."
            hint = "What the command was to change is changed; only its output is lost."
            self.fail(BlnkctlError(message, code="output_lost", hint=hint))
        self.has_lost_result = True

    def trace(self, line: str) -> None:
        """Say what happens inside."""
        self._say(harmless(line))

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{mask_keys(text)}\n")
            sys.stderr.flush()

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self.has_colour else text

    @contextmanager
    def bar_shown(self, bar: "Bar") -> Iterator[None]:
        """Know that a bar shows that something goes on; a question stops it, and it goes on after the answer."""
        self._bar = bar
        try:
            yield
        finally:
            self._bar = None

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how far something long is: a bar on a terminal, else a line every ten seconds."""
        if self.manners.quiet:
            yield lambda _done, _total: None
        elif _is_terminal(sys.stderr):
            with _bar(what) as (bar, advance), self.bar_shown(bar):
                yield advance
        else:
            yield self._lines(what)

    def _lines(self, what: str) -> Callable[[int, int], None]:
        last = monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            if monotonic() - last >= _QUIET_INTERVAL:
                last = monotonic()
                self.note(f"{what}: {done} of {total}")

        return advance

    # --- asking -------------------------------------------------------------------------------

    def ask_secret(self, prompt: str) -> Secret | None:
        """Return what a person types unseen, or None where nobody is there."""
        if not self.is_attended:
            return None
        from getpass import getpass

        try:
            with self._room_for_a_question():
                typed = getpass(prompt, stream=sys.stderr)
        except EOFError:
            raise Declined("The prompt was closed; nothing was sent.") from None
        return secret_from_text(typed, "the prompt")

    def ask_line(self, prompt: str) -> str:
        """Return a line that a person types."""
        with self._room_for_a_question():
            sys.stderr.write(prompt)
            sys.stderr.flush()
            line = sys.stdin.readline()
        if not line:
            self._say("")
        return line.strip()

    @contextmanager
    def _room_for_a_question(self) -> Iterator[None]:
        bar = self._bar
        if bar is None:
            yield
            return
        bar.stop()
        try:
            yield
        finally:
            bar.start()


@dataclass(frozen=True, slots=True)
class Confirmer:
    """An `Approver`. A protected context wants its name typed; `--yes` will do only where it was named outright."""

    terminal: Terminal
    protected_name: str | None = None
    is_named_outright: bool = False

    def approve(self, question: str, *, consequence: str | None = None) -> None:
        """Return if approved.

        Raises:
            Declined: refused, or nobody is there to ask.
        """
        manners = self.terminal.manners
        if manners.yes and (self.protected_name is None or self.is_named_outright):
            return
        if consequence is not None:
            self.terminal.warn(consequence)
        if not self.terminal.is_attended:
            raise self._nobody(question)
        if not self._answers_yes(question):
            raise Declined("Declined; nothing was changed.", code="declined")

    def _answers_yes(self, question: str) -> bool:
        if self.protected_name is None:
            return self.terminal.ask_line(f"{question} [y/N] ").lower() in ("y", "yes")
        prompt = f"{question} This context is protected; type its name ({self.protected_name}) to go on: "
        return self.terminal.ask_line(prompt) == self.protected_name

    def _nobody(self, question: str) -> Declined:
        how = "--yes" if self.protected_name is None else f"--yes with --context {self.protected_name}"
        return Declined(
            f"Nobody is here to answer: {question} Nothing was changed.",
            code="confirmation_needed",
            hint=f"Give {how} to go on without being asked.",
        )


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() not in ("", "0", "false")


@contextmanager
def _bar(what: str) -> Iterator[tuple[Bar, Callable[[int, int], None]]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True, width=min(os.get_terminal_size(2).columns, 100)), transient=True
    ) as bar:
        task = bar.add_task(what)
        yield bar, lambda done, total: bar.update(task, completed=done, total=total)
