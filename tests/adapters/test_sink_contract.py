"""What every `Sink` promises. A new sink is one more entry of `sink_kinds.KINDS`."""

import subprocess
import sys
from pathlib import Path

import pytest

from blnkctl.domain.errors import SinkFailed, SinkRefused
from blnkctl.domain.secret import Secret
from blnkctl.ports import Sink
from tests.adapters.sink_kinds import KINDS, OTHER, SECRET, SinkKind, make_place, open_sink

ROOT = Path(__file__).parents[2]


class Bench:
    """Sinks of one kind, and what they hold."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.kind: SinkKind = KINDS[name]
        self.directory = directory
        self.told: list[str] = []
        make_place(directory)

    def open(self, name: str = "billing") -> Sink:
        """Open the sink of a key as a new process does."""
        return open_sink(self.kind.address(self.directory), self.directory, name, self.told)

    def content(self, name: str = "billing") -> str | None:
        """Return what is there for a key."""
        return self.kind.content(self.directory, name)

    def files(self) -> dict[str, bytes]:
        """Return every file and what is in it."""
        return {str(path): path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}


@pytest.fixture(params=sorted(KINDS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Return the sinks of each kind."""
    return Bench(request.param, tmp_path)


def test_a_delivered_secret_is_there_and_nothing_else(bench: Bench) -> None:
    bench.open().deliver(SECRET)

    assert bench.content() == SECRET.reveal()
    assert bench.open().read() == (SECRET if bench.kind.can_be_read_back else None)
    assert bench.open().can_be_read_back is bench.kind.can_be_read_back


def test_nothing_is_there_before(bench: Bench) -> None:
    assert bench.open().read() is None
    assert bench.content() is None


def test_a_second_delivery_replaces_the_first(bench: Bench) -> None:
    bench.open().deliver(SECRET)

    bench.open().deliver(OTHER)

    assert bench.content() == OTHER.reveal()


def test_the_same_delivery_once_more_changes_nothing(bench: Bench) -> None:
    bench.open().deliver(SECRET)
    before = bench.files()

    bench.open().deliver(SECRET)

    assert bench.files() == before


def test_a_preflight_leaves_everything_as_it_is(bench: Bench) -> None:
    before = bench.files()
    bench.open().check()
    assert bench.files() == before

    bench.open().deliver(SECRET)
    after = bench.files()
    bench.open().check()
    assert bench.files() == after


def test_opening_touches_nothing(bench: Bench) -> None:
    before = bench.files()

    bench.open()

    assert bench.files() == before


def test_each_key_has_a_place_of_its_own(bench: Bench) -> None:
    bench.open("one").deliver(SECRET)
    bench.open("two").deliver(OTHER)

    assert (bench.content("one"), bench.content("two")) == (SECRET.reveal(), OTHER.reveal())
    assert bench.open("one").target != bench.open("two").target
    assert bench.open("one").target == bench.open("one").target


def test_a_place_that_cannot_take_it_is_refused_before_and_fails_after(bench: Bench) -> None:
    bench.kind.spoil(bench.directory)
    before = bench.files()

    with pytest.raises(SinkRefused) as refused:
        bench.open().check()
    with pytest.raises(SinkFailed) as failed:
        bench.open().deliver(SECRET)

    assert (refused.value.code, failed.value.code) == ("sink_refused", "sink_failed")
    assert refused.value.message.endswith("Nothing was sent.")
    assert bench.open().target in refused.value.message
    assert bench.open().target in failed.value.message
    assert SECRET.reveal() not in f"{failed.value.message}{failed.value.hint}"
    assert refused.value.hint is not None
    assert {name: content for name, content in bench.files().items() if "locks" not in name} == before


def test_two_processes_that_deliver_at_once_leave_one_secret_whole(bench: Bench) -> None:
    module = [sys.executable, "-m", "tests.adapters.sink_kinds", bench.name, str(bench.directory), "12"]
    secrets = ("a" * 43 + "=", "b" * 43 + "=")
    writers = [subprocess.Popen(module, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in secrets]

    for writer, secret in zip(writers, secrets, strict=True):
        assert writer.stdin is not None
        writer.stdin.write(secret)
        writer.stdin.close()
    codes = [writer.wait(timeout=60) for writer in writers]

    if bench.kind.can_be_read_back:  # what two runs of one program do to each other is the program's to bear
        assert codes == [0, 0]
        assert {path.name for path in (bench.directory / "place").iterdir()} == {"keep", "billing.env"}
    assert bench.content() in secrets


def test_a_sink_does_not_show_the_secret(bench: Bench) -> None:
    sink = bench.open()

    sink.deliver(SECRET)

    assert SECRET.reveal() not in f"{sink!r} {sink.target} {bench.told}"
    assert Secret("x") != sink.read()
