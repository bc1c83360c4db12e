"""The sandbox that callers start and stop: an emulated server on a port of loopback."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from blnkctl.sandbox.emulator import Emulator
from blnkctl.sandbox.limiter import RateLimit, parse_rate_limit
from blnkctl.sandbox.options import SandboxOptions
from blnkctl.sandbox.replies import Response
from blnkctl.sandbox.rows import KeyRow
from blnkctl.sandbox.versions import NEWEST
from blnkctl.sandbox.wire import Server

__all__ = ["NEWEST", "Emulator", "KeyRow", "RateLimit", "Response", "Sandbox", "SandboxOptions", "parse_rate_limit"]


class Sandbox:
    """A throwaway Core server; a context manager, or start and stop.

    ``url`` is known once it was started. ``notes`` are sentences for standard error, ``issued`` the
    plain text of every key that it handed out. Raise ValueError, with a sentence, for a version, a
    data file or an export that cannot be used, OSError for a port that is taken.
    """

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self.emulator = Emulator(options)
        self.admin_key = self.emulator.admin_key
        self.core = self.emulator.core
        self.notes = self.emulator.notes
        self.issued = self.emulator.issued
        self.url = ""
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; requests are answered from here on."""
        try:
            self._server = Server(self._options.port, self.emulator.answer)
        except OSError:
            self.emulator.close()
            raise
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        # A short poll, as a stop waits for it.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="sandbox")
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, end every connection, wait for every thread, let go of the data file."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.hang_up()
            self._server.server_close()
            self._server = self._thread = None
        self.emulator.close()

    def add_rows(self, *rows: KeyRow) -> None:
        """Put rows into the table as they are, as from an export."""
        self.emulator.rows.add(*rows)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
