"""The values of the global options, as typed, and what each becomes."""

from dataclasses import dataclass, field
from datetime import timedelta

from blnkctl.cli.terminal import Manners
from blnkctl.domain.errors import UsageError

FORMATS = ("table", "json", "jsonl", "tsv", "csv", "ids")
DEFAULT_TIMEOUT = timedelta(seconds=30)


@dataclass(slots=True)
class Flags:
    """What was given on the command line, wherever it stood."""

    manners: Manners = field(default_factory=Manners)
    context: str | None = None
    output: str | None = None
    debug: bool = False
    timeout: timedelta = DEFAULT_TIMEOUT
    reason: str | None = None

    def take(self, name: str, value: str | bool) -> None:
        """Record one option.

        Raises:
            UsageError: the value is none of the option's.
        """
        if isinstance(value, str) and not value.isprintable():
            raise UsageError(
                f"--{name.replace('_', '-')} holds a control character, or bytes that are no UTF-8.", code="bad_text"
            )
        if name == "reason":
            _refuse_secret(str(value))
        if name == "output":
            self.output = check_format(str(value), "--output")
        elif name == "timeout":
            self.timeout = _timeout(str(value))
        elif name == "debug":
            self.debug = self.manners.verbose = True
        elif name in ("yes", "no_input", "quiet", "verbose"):
            setattr(self.manners, name, True)
        else:
            setattr(self, name, str(value))


def _refuse_secret(reason: str) -> None:
    """Refuse what the journal and the report would keep in clear."""
    from blnkctl.domain.secret import refuse_secret_word

    refuse_secret_word(reason)


def check_format(text: str, source: str) -> str:
    """Return the name of an output format.

    Raises:
        UsageError: there is none of that name.
    """
    if text not in FORMATS:
        raise UsageError(
            f"{source} {text!r} is no output format.", code="bad_format", hint=f"Formats: {', '.join(FORMATS)}."
        )
    return text


def _timeout(text: str) -> timedelta:
    from blnkctl.domain.times import parse_duration

    return parse_duration(text, flag="--timeout")
