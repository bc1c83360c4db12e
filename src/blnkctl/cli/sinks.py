"""Sinks of the command line, and who delivers to them."""

from typing import Annotated

import typer

from blnkctl.cli.run import Run
from blnkctl.domain.sinks import SinkAddress
from blnkctl.usecases.deliver import DeliverSecret

To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="SINK", help="Hand it to env-file:PATH[#VAR] or command:… (repeatable)."),
]


def typed_sinks(run: Run, to: list[str] | None) -> tuple[SinkAddress, ...]:
    """Return the sinks that were typed, each once.

    Raises:
        UsageError: one is none.
    """
    return tuple(dict.fromkeys(run.wiring.sink_address(text) for text in to or ()))


def delivery(run: Run) -> DeliverSecret:
    """Return who delivers secrets of the target in use."""
    wiring = run.wiring
    return DeliverSecret(run.target.url, wiring.sinks, wiring.journal, wiring.clock, run.target.context)
