"""How far a migration is, told on standard error."""

import json
from collections.abc import Iterator

import pytest

from blnkctl.cli import progress
from blnkctl.cli.formats import document
from blnkctl.cli.output import Output, Result
from blnkctl.cli.progress import describe, migration_progress
from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, Incomplete, UsageError
from blnkctl.usecases.headway import Tally


def test_it_tells_what_is_done_and_failed_the_rate_the_time_left_and_the_owner() -> None:
    tally = Tally(20_000, done=5_990, failed=10, owner="acme")
    assert describe(tally, 60.0) == "5990 of 20000 done, 10 failed, 100.0/s, 2 min 20 s left, acme"


@pytest.mark.parametrize(
    ("total", "seconds", "words"),
    [(10, 0.0, "time left unknown"), (10, 1.0, "9 s left"), (7300, 1.0, "2 h 01 min left"), (1, 1.0, "0 s left")],
)
def test_the_time_left_is_told_as_people_say_it(total: int, seconds: float, words: str) -> None:
    assert words in describe(Tally(total, done=1), seconds)


def test_an_owner_is_shown_harmlessly_and_in_short() -> None:
    told = describe(Tally(1, owner="\x1b[31m" + "x" * 100), 1.0)
    assert "\x1b" not in told
    assert len(told) < 90


def a_run(*flags: str) -> Run:
    run = Run((), {})
    for flag in flags:
        run.flags.take(flag, True)
    return run


def test_without_a_terminal_a_line_is_told_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds: Iterator[float] = iter([0.0, 5.0, 10.0, 10.0, 15.0, 20.5, 20.5])
    monkeypatch.setattr(progress, "monotonic", lambda: next(seconds))
    with migration_progress(a_run(), "Migrating") as show:
        for done in range(4):
            show(Tally(100, done=done))
    assert capsys.readouterr().err.splitlines() == [
        "Migrating: 1 of 100 done, 0 failed, 0.1/s, 16 min 30 s left, ",
        "Migrating: 3 of 100 done, 0 failed, 0.1/s, 11 min 03 s left, ",
    ]


def test_under_quiet_nothing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    with migration_progress(a_run("quiet"), "Migrating") as show:
        show(Tally(1))
    assert capsys.readouterr().err == ""


# --- documents that are written as they come ------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize(
    "errors",
    [
        [],
        [Incomplete("Some are not done.", hint="Go on.")],
        [UsageError('A hostile "*" [\n      "*"\n    ] message.')],
    ],
)
def test_a_document_with_a_summary_is_what_it_would_be_written_at_once(
    count: int, errors: list[BlnkctlError], capsys: pytest.CaptureFixture[str]
) -> None:
    items: list[dict[str, object]] = [
        {"old": {"name": f'"*" {number}\n', "scopes": ["*"]}, "new": None} for number in range(count)
    ]
    summary: dict[str, object] = {"done": count, "failed": 0, "pending": 2}
    Output(a_run().terminal, "migrate run", "json").write(Result(iter(items), summary=summary, errors=errors))
    is_partial = bool(errors) and isinstance(errors[0], Incomplete)
    whole = document("migrate run", {**summary, "items": items}, errors, partial=is_partial)
    assert json.loads(capsys.readouterr().out) == json.loads(whole)
