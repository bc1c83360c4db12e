"""Why a place cannot take a key: told as a refusal before anything is sent, as a failed delivery afterwards."""

from blnkctl.domain.errors import SinkFailed, SinkRefused
from blnkctl.domain.names import escape_unsafe


class Unfit(Exception):
    """What is wrong with a place, and what to do about it. Both parts can be shown as they are."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    def refused(self, target: str) -> SinkRefused:
        """Return the error of a preflight."""
        message = f"{escape_unsafe(target)} cannot take a key: {self.reason}. Nothing was sent."
        return SinkRefused(message, hint=self.hint)

    def failed(self, target: str) -> SinkFailed:
        """Return the error of a delivery, or of reading back."""
        return SinkFailed(f"{escape_unsafe(target)}: {self.reason}.", hint=self.hint)


def reason_of(problem: Exception) -> str:
    """Return why something did not work, without a path."""
    if isinstance(problem, OSError):
        return problem.strerror or type(problem).__name__
    return str(problem)
