"""`command:PROGRAM ARGUMENTS…`: any program, started without a shell, the secret on its standard input."""

import os
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from blnkctl.adapters.sinks.masking import Masking
from blnkctl.adapters.sinks.unfit import Unfit
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.system.children import child_environment
from blnkctl.system.programs import Ended, run_within

COMMAND_SECONDS = 60.0
_QUOTED_LINES = 3
_UNKNOWN = "whether it took the key is not known"


class CommandSink:
    """A `Sink` that is whatever the program makes of it. `tell` is given what it prints, line by line."""

    can_be_read_back = False

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        tell: Callable[[str], None],
        seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._words = words
        self._environment = child_environment(environment)
        self._tell = tell
        self._seconds = seconds
        self.target = shlex.join(words)

    def check(self) -> None:
        """See that the program is there."""
        try:
            self._program()
        except Unfit as problem:
            raise problem.refused(self.target) from None

    def deliver(self, secret: Secret) -> None:
        """Run the program to its end, the secret and nothing else on its standard input."""
        try:
            words = [self._program(), *self._words[1:]]
            ended = run_within(words, self._environment, self._seconds, given=secret.reveal().encode())
            lines = self._told(ended, Masking(secret))
            self._check_success(ended, lines)
        except OSError as error:
            raise Unfit(f"it cannot be started: {error.strerror}").failed(self.target) from None
        except Unfit as problem:
            raise problem.failed(self.target) from None

    def read(self) -> Secret | None:
        """Return nothing: a program takes the secret, and nobody knows where to."""
        return None

    def _program(self) -> str:
        found = shutil.which(self._words[0], path=self._environment.get("PATH", os.defpath))
        if found is None:
            name = escape_unsafe(self._words[0])
            raise Unfit(f"there is no program {name}", "Install it, or name it with its whole path.")
        return found

    def _told(self, ended: Ended, masking: Masking) -> list[str]:
        """Show what the program printed, without the secret, and return the lines."""
        text = masking.masked(ended.output.decode("utf-8", "replace"), is_cut=ended.is_cut)
        lines = [escape_unsafe(line) for line in text.splitlines() if line.strip()]
        for line in lines:
            self._tell(f"{escape_unsafe(self._words[0])}: {line}")
        return lines

    def _check_success(self, ended: Ended, lines: list[str]) -> None:
        if ended.code == 0:
            return
        said = f", saying: {' / '.join(lines[-_QUOTED_LINES:])}" if lines else ""
        raise Unfit(
            f"{self._end_of(ended)}{said}; {_UNKNOWN}", "Mend that, then deliver it again: once more is safe."
        )

    def _end_of(self, ended: Ended) -> str:
        if ended.code is None:
            return f"it was stopped, as it did not end within {self._seconds:g} s"
        if ended.code > 0:
            return f"it ended with {ended.code}"
        name = f"signal {-ended.code}"
        with suppress(ValueError):
            name = signal.Signals(-ended.code).name
        return f"it was ended by {name}"
