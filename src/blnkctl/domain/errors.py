"""Every way blnkctl can fail, as one tree.

    BlnkctlError
    ├── UsageError            2   the call is wrong
    │   └── Rejected          2   a 400 of the server
    ├── NotConfigured         3   no context, admin key or store
    ├── Refused               4   the server refused the key
    ├── StoreUnavailable      5   store, journal or escrow; nothing new exists
    ├── OutcomeUnknown        6   `blnkctl recover` finds out
    ├── NotFound              7   no such key, or its secret is not here
    ├── Incomplete            8   part of it is done
    ├── Unreachable           9   nothing was sent
    ├── GateTripped          10
    ├── Declined             11
    ├── Unsupported          12   this server's version cannot do it
    └── ServerTrouble         1   to a request that changes nothing: try again

An error says what happened, what is true now (`message`) and what to type next (`hint`).
`code` is stable: scripts depend on it. The exit codes belong to the command line, not to this module.
"""


class BlnkctlError(Exception):
    """Base of every expected failure."""

    code = "error"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, target: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.target = target
        if code is not None:
            self.code = code


class UsageError(BlnkctlError):
    """The call is wrong: a flag, a name, a scope, an expiry, a missing answer, or a 400 of the server."""

    code = "usage"


class Rejected(UsageError):
    """A 400 of the server: it did not take what it was asked."""

    code = "server_said_400"


class NotConfigured(BlnkctlError):
    """No context, admin key or store, or configuration that cannot be read."""

    code = "not_configured"


class Refused(BlnkctlError):
    """The server refused the admin key, or is not in secure mode."""

    code = "refused"


class StoreUnavailable(BlnkctlError):
    """The secret store, the journal or the escrow cannot be used; nothing exists that did not before."""

    code = "store_unavailable"


class OutcomeUnknown(BlnkctlError):
    """A change was sent and its outcome is not known."""

    code = "outcome_unknown"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, target: str | None = None
    ) -> None:
        super().__init__(message, hint=hint or RECOVER_HINT, code=code, target=target)


class NotFound(BlnkctlError):
    """No such key or context, or its secret is not held here."""

    code = "not_found"


class Incomplete(BlnkctlError):
    """Some of it is done; the hint resumes it."""

    code = "incomplete"


class Unreachable(BlnkctlError):
    """The server was not reached; nothing was sent."""

    code = "unreachable"


class GateTripped(BlnkctlError):
    """A check that the caller asked for found something."""

    code = "gate_tripped"


class Declined(BlnkctlError):
    """A confirmation was refused, or nobody was there to give it."""

    code = "declined"


class Unsupported(BlnkctlError):
    """This server's version cannot do it; nothing was sent."""

    code = "unsupported"


class ServerTrouble(BlnkctlError):
    """An answer to a harmless request that is missing or is not Blnk's."""

    code = "server_trouble"


RECOVER_HINT = "Run: blnkctl recover"


class UnusableSecret(UsageError):
    """A secret that was typed or read and cannot be one. Never quotes it."""

    code = "unusable_secret"

    def __init__(self, source: str, what: str) -> None:
        super().__init__(
            f"The secret from {source} {what}; nothing was sent.",
            hint="It must be printable ASCII on one line, without a space at either end.",
        )


class SinkRefused(UsageError):
    """A place that a key is not delivered to, found out before anything was sent."""

    code = "sink_refused"


class SinkFailed(Incomplete):
    """A delivery that failed; the key is in the store, and what was there before is whole."""

    code = "sink_failed"


class Busy(Incomplete):
    """Another blnkctl is at work on the same thing."""

    code = "busy"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Another blnkctl is at work on {what}; nothing was sent.",
            hint="Wait for it to end, then run this again.",
        )


class UnusableAnswer(OutcomeUnknown):
    """A create was answered by a 201 that is not the key asked for. `key_id` is what it named, if anything."""

    code = "unusable_answer"

    def __init__(self, what: str, key_id: str | None) -> None:
        super().__init__(f"The server answered the create with a 201 {what}.", target=key_id)
        self.key_id = key_id
