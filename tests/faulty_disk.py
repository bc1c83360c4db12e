"""A disk that fails: the system calls that touch a directory raise what the kernel would, from a chosen call on.

In this process only, and not below SQLite, which makes its calls itself: there a limit on the size of files serves.
"""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

TAKING_SPACE = frozenset({"create", "write", "mkdir", "link", "replace"})
CHANGING = TAKING_SPACE | {"ftruncate", "unlink", "fsync"}
_PATCHED = ("open", "write", "mkdir", "link", "replace", "ftruncate", "unlink", "fsync")


class FaultyDisk:
    """Below a directory the calls of some kinds fail from the `first` one on, `lasting` of them (None: all).

    A write that fails leaves half of what it was to write. `calls` tells every call made there, and what it was of.
    """

    def __init__(
        self,
        directory: Path,
        *,
        first: int | None = None,
        lasting: int | None = None,
        error: int = errno.ENOSPC,
        kinds: frozenset[str] = TAKING_SPACE,
    ) -> None:
        self._directory = str(directory.absolute())
        self._first, self._lasting = first, lasting
        self._error = error
        self._kinds = kinds
        self._met = 0
        self._patch = pytest.MonkeyPatch()
        self.calls: list[tuple[str, str]] = []

    @property
    def has_failed(self) -> bool:
        """Whether any call failed."""
        return self._first is not None and self._met >= self._first

    def fail_from_now_on(self) -> None:
        """Let every further call of these kinds fail."""
        self._first = self._met + 1

    def __enter__(self) -> Self:
        for name in _PATCHED:
            self._patch.setattr(os, name, self._watched(name, getattr(os, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patch.undo()

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *arguments: Any, **named: Any) -> Any:
            path = _path_of(target)
            kind = _kind_of(name, arguments)
            if path is None or not path.startswith(self._directory) or kind is None:
                return real(target, *arguments, **named)
            self.calls.append((kind, path))
            if self._is_to_fail(kind):
                if name == "write":
                    real(target, arguments[0][: len(arguments[0]) // 2])
                raise OSError(self._error, os.strerror(self._error), path)
            return real(target, *arguments, **named)

        return call

    def _is_to_fail(self, kind: str) -> bool:
        if kind not in self._kinds:
            return False
        self._met += 1
        if self._first is None or self._met < self._first:
            return False
        return self._lasting is None or self._met < self._first + self._lasting


def _path_of(target: Any) -> str | None:
    if isinstance(target, int):
        try:
            return str(Path(f"/proc/self/fd/{target}").readlink())
        except OSError:
            return None
    return os.fspath(target) if isinstance(target, str | os.PathLike) else None


def _kind_of(name: str, arguments: tuple[Any, ...]) -> str | None:
    if name != "open":
        return name
    return "create" if arguments and arguments[0] & os.O_CREAT else None


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let this process, SQLite included, write no file beyond a size; the kernel refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
