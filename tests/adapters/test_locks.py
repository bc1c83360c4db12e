"""Named locks between the processes of one machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blnkctl.adapters.locks import LockDirectory
from blnkctl.domain.errors import Busy, StoreUnavailable
from tests.faulty_disk import FaultyDisk

HOLD = (
    "import sys, time; from pathlib import Path; from blnkctl.adapters.locks import LockDirectory\n"
    "with LockDirectory(Path(sys.argv[1])).hold(sys.argv[2:], 'x'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


def test_a_lock_that_another_process_holds_is_busy_and_its_end_frees_it(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "locks", patience=0.1)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "locks"), "key a", "name b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(Busy) as busy, locks.hold(["name b"], "acme/billing"):
            pytest.fail("two hold it")
        assert (locks.is_held("key a"), locks.is_held("key c")) == (True, False)
        holder.kill()

    assert busy.value.message == "Another blnkctl is at work on acme/billing; nothing was sent."
    assert busy.value.hint == "Wait for it to end, then run this again."
    assert not locks.is_held("key a")
    with locks.hold(["key a", "name b"], "acme/billing"):
        assert locks.is_held("key a")


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "locks", patience=30)
    program = HOLD.replace("time.sleep(60)", "time.sleep(0.3)")
    command = [sys.executable, "-c", program, str(tmp_path / "locks"), "key a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with locks.hold(["key a"], "a"):
            assert 0.1 < time.monotonic() - began < 20


def test_other_names_are_free(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "locks", patience=0)

    with locks.hold(["name http://x 'a' 'b'"], "a/b"), locks.hold(["name http://x 'a' 'c'", "../../x\0/"], "a/c"):
        assert locks.is_held("../../x\0/")


def test_nothing_is_left_of_locks_that_were_held(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "state" / "locks")

    with locks.hold(["a", "b", "c"], "them"):
        assert len(list((tmp_path / "state" / "locks").iterdir())) == 3

    assert list((tmp_path / "state" / "locks").iterdir()) == []
    assert [oct((tmp_path / part).stat().st_mode) for part in ("state", "state/locks")] == ["0o40700"] * 2


def test_whoever_cannot_get_them_all_keeps_none(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "locks", patience=0)

    with locks.hold(["b"], "b"):
        with pytest.raises(Busy), locks.hold(["a", "b", "c"], "them"):
            pytest.fail("two hold b")
        assert [locks.is_held(name) for name in "abc"] == [False, True, False]


def test_opposite_orders_never_wait_for_each_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from blnkctl.system import locks; locks._PAUSE = 0\n"
        "from blnkctl.adapters.locks import LockDirectory\n"
        "for _ in range(100):\n"
        "    with LockDirectory(Path(sys.argv[1])).hold(sys.argv[2:], 'x'): pass"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "locks")]
    takers = [subprocess.Popen([*command, *order]) for order in (("a", "b", "c"), ("c", "b", "a"))]

    assert [taker.wait(timeout=60) for taker in takers] == [0, 0]


def test_locks_that_cannot_be_taken_are_no_bug(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(StoreUnavailable) as refused, LockDirectory(tmp_path / "file" / "locks").hold(["a"], "a"):
        pytest.fail("there is no place for it")

    assert refused.value.message == (
        f"No lock could be taken in {tmp_path / 'file' / 'locks'}: File exists. Nothing was sent."
    )
    assert refused.value.hint is not None


def test_a_disk_on_which_no_lock_can_be_made_is_no_bug(tmp_path: Path) -> None:
    locks = LockDirectory(tmp_path / "locks")
    with locks.hold(["a"], "a"), FaultyDisk(tmp_path, first=1):
        with pytest.raises(StoreUnavailable, match="No space left on device"), locks.hold(["b"], "b"):
            pytest.fail("it cannot be made")
        assert locks.is_held("a")


def test_a_directory_of_somebody_else_is_not_locked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(StoreUnavailable, match="belongs to another user"), LockDirectory(tmp_path).hold(["a"], "a"):
        pytest.fail("somebody else could take it away")
