"""`env-file:PATH#VAR`: one variable of an env file, every other byte and all that the file is left as it was."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blnkctl.adapters.sinks.dotenv import Unclear, check_settable, is_read_alike, value_of, with_value
from blnkctl.adapters.sinks.git import check_is_kept_out
from blnkctl.adapters.sinks.regular_files import check_directory, check_replaceable, open_itself, read_all, read_file
from blnkctl.adapters.sinks.unfit import Unfit, reason_of
from blnkctl.domain.errors import Busy, StoreUnavailable, UnusableSecret
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret, secret_from_text
from blnkctl.system.rewrites import FileChanged, Original, rehearse, rewrite, sweep

if TYPE_CHECKING:
    from blnkctl.ports import Locks

_LONGEST_LINE = 1024
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Found:
    """What is at the path: its text, and the open file; None where there is none yet."""

    content: bytes
    original: Original | None = None


class EnvFileSink:
    """A `Sink` that sets one variable of a file."""

    can_be_read_back = True

    def __init__(
        self, path: Path, variable: str, locks: "Callable[[], Locks]", environment: Mapping[str, str]
    ) -> None:
        self._path = Path(os.path.realpath(path.parent), path.name)
        self._variable = variable
        self._locks = locks
        self._environment = environment
        self.target = f"{self._path}#{variable}"

    def check(self) -> None:
        """Look at the file and all around it, and write as much beside it as would replace it."""
        try:
            with self._found() as found:
                check_settable(found.content, self._variable)
                rehearse(self._path, len(found.content) + _LONGEST_LINE, found.original)
        except (Unfit, Unclear, OSError) as problem:
            raise _unfit(problem).refused(self.target) from None

    def deliver(self, secret: Secret) -> None:
        """Set the variable, under a lock that every blnkctl of this user takes for this file."""
        value = secret.reveal()
        try:
            if not is_read_alike(value):
                raise Unfit("the secret holds a character that readers of env files take differently")
            with self._locks().hold([f"sink:{self._path}"], escape_unsafe(str(self._path))):
                self._set(value)
        except (Unfit, Unclear, OSError, Busy, StoreUnavailable) as problem:
            raise _unfit(problem).failed(self.target) from None

    def read(self) -> Secret | None:
        """Return the variable's value; None where it has none that could be a secret."""
        try:
            content = read_file(self._path)
            text = value_of(content, self._variable)
            return None if text is None else secret_from_text(text, self.target)
        except (FileNotFoundError, UnusableSecret):
            return None
        except (Unfit, Unclear, OSError) as problem:
            raise _unfit(problem).failed(self.target) from None

    def _set(self, value: str) -> None:
        """Read, edit and replace; anew where somebody else changed the file in between."""
        for _ in range(_ATTEMPTS):
            with self._found() as found:
                sweep(self._path)
                content = with_value(found.content, self._variable, value)
                try:
                    if content != found.content:
                        rewrite(self._path, content, found.original)
                except FileChanged:
                    continue
                return
        raise Unfit("another program keeps changing it")

    @contextmanager
    def _found(self) -> Iterator[_Found]:
        """Open the file, if it is there, and see that it may be replaced."""
        check_directory(self._path.parent)
        check_is_kept_out(self._path, self._environment)
        try:
            descriptor = open_itself(self._path)
        except FileNotFoundError:
            yield _Found(b"")
            return
        try:
            original = Original.of(descriptor)
            check_replaceable(self._path, original.status)
            yield _Found(read_all(descriptor), original)
        finally:
            os.close(descriptor)


def _unfit(problem: Exception) -> Unfit:
    """Return what is wrong in the words of this kind of sink."""
    if isinstance(problem, Unfit):
        return problem
    if isinstance(problem, Unclear):
        return Unfit(reason_of(problem), "Write that line plainly (VAR=value), or use a file of its own.")
    if isinstance(problem, Busy):
        return Unfit("another blnkctl is at work on it", problem.hint)
    if isinstance(problem, StoreUnavailable):
        return Unfit("no lock could be taken for it in the state directory", problem.hint)
    if isinstance(problem, PermissionError):
        return Unfit(reason_of(problem), "It must be yours to read, and to replace by a file of its owner and group.")
    return Unfit(reason_of(problem))
