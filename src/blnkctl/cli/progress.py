"""How far a migration is: a bar on a terminal, else a line every ten seconds. Standard error only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from blnkctl.cli.run import Run
from blnkctl.cli.terminal import Bar
from blnkctl.domain.names import escape_unsafe
from blnkctl.system.memory import Thrift
from blnkctl.usecases.headway import Tally

_INTERVAL = 10.0
_OWNER_WIDTH = 24


@contextmanager
def migration_progress(run: Run, what: str) -> Iterator[Callable[[Tally], None]]:
    """Give what takes the tally as it grows, and looks after the memory of a run that takes long."""
    thrift = Thrift()
    with _shown(run, what) as show:

        def take(tally: Tally) -> None:
            show(tally)
            thrift.now_and_then()

        yield take


@contextmanager
def _shown(run: Run, what: str) -> Iterator[Callable[[Tally], None]]:
    if run.flags.manners.quiet:
        yield lambda _tally: None
    elif run.terminal.is_watched:
        with _bar(what) as (bar, show), run.terminal.bar_shown(bar):
            yield show
    else:
        yield _lines(run, what)


def _lines(run: Run, what: str) -> Callable[[Tally], None]:
    started = last = monotonic()

    def show(tally: Tally) -> None:
        nonlocal last
        if monotonic() - last >= _INTERVAL:
            last = monotonic()
            run.terminal.note(f"{what}: {describe(tally, last - started)}")

    return show


def describe(tally: Tally, seconds: float) -> str:
    """Say how far it is: done, failed, rate, time left, and whose keys."""
    tried = tally.done + tally.failed
    rate = tried / seconds if seconds > 0 else 0.0
    left = f"{_length((tally.total - tried) / rate)} left" if rate > 0 else "time left unknown"
    return (
        f"{tally.done} of {tally.total} done, {tally.failed} failed, {rate:.1f}/s, {left},"
        f" {escape_unsafe(tally.owner)[:_OWNER_WIDTH]}"
    )


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@contextmanager
def _bar(what: str) -> Iterator[tuple[Bar, Callable[[Tally], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    width = min(os.get_terminal_size(sys.stderr.fileno()).columns, 120)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}", markup=False)
    started = monotonic()
    with Progress(*columns, console=Console(stderr=True, width=width), transient=True) as bar:
        task = bar.add_task(what, told="", total=None)

        def show(tally: Tally) -> None:
            told = describe(tally, monotonic() - started)
            bar.update(task, completed=tally.done + tally.failed, total=tally.total, told=told)

        yield bar, show
