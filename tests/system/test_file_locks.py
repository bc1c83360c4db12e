"""Locks that the kernel holds: between processes and within one, shared or not, and released by a kill."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blnkctl.system.locks import LockBusy, locked, try_lock

HOLD = (
    "import sys, time; from pathlib import Path; from blnkctl.system.locks import locked\n"
    "with locked(Path(sys.argv[1]), shared=sys.argv[2] == 'shared'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def hold_elsewhere() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that lets another process hold a lock; it is killed afterwards."""
    running: list[subprocess.Popen[str]] = []

    def hold(path: Path, how: str = "alone") -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", HOLD, str(path), how]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def test_a_lock_that_another_process_holds_cannot_be_had(
    tmp_path: Path, hold_elsewhere: Callable[..., "subprocess.Popen[str]"]
) -> None:
    hold_elsewhere(tmp_path / "lock")

    with pytest.raises(LockBusy), locked(tmp_path / "lock"):
        pytest.fail("two hold it")


def test_a_kill_releases_a_lock(tmp_path: Path, hold_elsewhere: Callable[..., "subprocess.Popen[str]"]) -> None:
    holder = hold_elsewhere(tmp_path / "lock")

    holder.kill()
    holder.wait()

    with locked(tmp_path / "lock", wait=5):
        assert (tmp_path / "lock").exists()


def test_a_shared_lock_is_had_by_many_and_keeps_others_out(
    tmp_path: Path, hold_elsewhere: Callable[..., "subprocess.Popen[str]"]
) -> None:
    hold_elsewhere(tmp_path / "lock", "shared")

    with locked(tmp_path / "lock", shared=True), locked(tmp_path / "lock", shared=True):
        assert try_lock(tmp_path / "lock") is None


def test_a_waiter_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    descriptor = try_lock(tmp_path / "lock")
    assert descriptor is not None
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("shared=", "wait=30, shared="), str(tmp_path / "lock"), "alone"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert waiting.stdout is not None
        os.close(descriptor)
        assert waiting.stdout.readline() == "held\n"
    finally:
        waiting.kill()
        waiting.communicate()


def test_waiting_ends_in_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        began = time.monotonic()
        with pytest.raises(LockBusy), locked(tmp_path / "lock", wait=0.2):
            pytest.fail("two hold it")
        assert 0.2 <= time.monotonic() - began < 5


def test_a_lock_file_is_private_and_goes_where_that_is_asked_for(tmp_path: Path) -> None:
    with locked(tmp_path / "kept"), locked(tmp_path / "gone", remove=True):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == {0o600}
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_a_lock_whose_file_was_removed_does_not_count(tmp_path: Path) -> None:
    """Its holder holds a file that nobody finds any more; who comes next must not hold that one as well."""
    path = tmp_path / "lock"
    with locked(path):
        path.unlink()
        first = try_lock(path)
        assert first is not None
        assert try_lock(path) is None
        os.close(first)


def test_many_that_remove_the_lock_never_hold_it_at_once(tmp_path: Path) -> None:
    """Each counts up without any other protection; a lost update would show two holders."""
    (tmp_path / "count").write_text("0")
    program = (
        "import sys; from pathlib import Path; from blnkctl.system import locks\n"
        "locks._PAUSE = 0\n"
        "base = Path(sys.argv[1])\n"
        "for _ in range(150):\n"
        "    with locks.locked(base / 'lock', wait=30, remove=True):\n"
        "        count = base / 'count'; count.write_text(str(int(count.read_text()) + 1))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    counters = [subprocess.Popen(command) for _ in range(3)]

    assert [counter.wait(timeout=60) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "450"


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        try_lock(tmp_path / "lock")

    assert not (tmp_path / "elsewhere").exists()
