"""Opens the sink that an address means, by its kind."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from blnkctl.domain.sinks import COMMAND, ENV_FILE, FilledSink

if TYPE_CHECKING:
    from blnkctl.ports import Locks, Sink


class SinkFactory:
    """`Sinks`, each of whose modules is imported when one of its kind is opened."""

    def __init__(
        self, environment: Mapping[str, str], locks: "Callable[[], Locks]", tell: Callable[[str], None]
    ) -> None:
        self._environment = environment
        self._locks = locks
        self._tell = tell
        self._kinds: Mapping[str, Callable[[FilledSink], Sink]] = {ENV_FILE: self._env_file, COMMAND: self._command}

    def open(self, filled: FilledSink) -> "Sink":
        """Return the sink; nothing is touched."""
        return self._kinds[filled.kind](filled)

    def _env_file(self, filled: FilledSink) -> "Sink":
        from blnkctl.adapters.sinks.env_file import EnvFileSink

        path, variable = filled.parts
        return EnvFileSink(Path(path), variable, self._locks, self._environment)

    def _command(self, filled: FilledSink) -> "Sink":
        from blnkctl.adapters.sinks.command import CommandSink

        return CommandSink(filled.parts, self._environment, self._tell)
