"""Env files as places for keys: what they keep, what is refused and why, and what a kill leaves."""

import errno
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from blnkctl.adapters.locks import LockDirectory
from blnkctl.adapters.sinks import env_file, regular_files
from blnkctl.adapters.sinks.dotenv import with_value
from blnkctl.adapters.sinks.env_file import EnvFileSink
from blnkctl.domain.errors import SinkFailed, SinkRefused
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.system import mounts, rewrites
from tests.adapters.sink_kinds import OTHER, SECRET
from tests.faulty_disk import FaultyDisk
from tests.programs import program

ROOT = Path(__file__).parents[2]
NOBODY = 65534
OLD = b"# mine\nA='x'\nexport KEY=\"old\" # here\nB=2"
NEW = OLD.replace(b"old", SECRET.reveal().encode())
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_DIR": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/x",
}
DELIVER = """
import sys
from pathlib import Path
from tests.adapters.test_env_file_sink import open_sink
from blnkctl.domain.secret import Secret
sink = open_sink(Path(sys.argv[1]), Path(sys.argv[2]), variable=sys.argv[3])
sys.stdout.write("ready\\n"); sys.stdout.flush()
for line in sys.stdin:
    sink.deliver(Secret(line.strip()))
"""


def open_sink(path: Path, state: Path, patience: float = 10.0, variable: str = "KEY") -> EnvFileSink:
    """Open the sink of a variable in a file."""
    return EnvFileSink(path, variable, lambda: LockDirectory(state / "locks", patience), ENVIRONMENT)


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """Return a private env file in a directory of its own."""
    (tmp_path / "app").mkdir()
    path = tmp_path / "app" / ".env"
    path.write_bytes(OLD)
    path.chmod(0o600)
    return path


@pytest.fixture
def sink(env: Path, tmp_path: Path) -> EnvFileSink:
    """Return the sink of `KEY` in that file."""
    return open_sink(env, tmp_path / "state")


def refusal(sink: EnvFileSink) -> SinkRefused:
    """Return what a preflight says, and see that a delivery would have failed for the same reason."""
    with pytest.raises(SinkRefused) as refused:
        sink.check()
    with pytest.raises(SinkFailed) as failed:
        sink.deliver(SECRET)
    shown = escape_unsafe(sink.target)
    reason = refused.value.message.removeprefix(f"{shown} cannot take a key: ").removesuffix(" Nothing was sent.")
    assert failed.value.message == f"{shown}: {reason}"
    return refused.value


def names_in(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def mode_of(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


# --- what is kept -----------------------------------------------------------------------------


def test_one_value_is_exchanged_and_the_rest_stays(sink: EnvFileSink, env: Path) -> None:
    sink.check()
    sink.deliver(SECRET)

    assert env.read_bytes() == NEW
    assert sink.read() == SECRET
    assert names_in(env.parent) == [".env"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o400, 0o440])
def test_the_mode_is_kept_whatever_the_umask(mode: int, sink: EnvFileSink, env: Path) -> None:
    env.chmod(mode)
    before = os.umask(0o077)
    try:
        sink.deliver(SECRET)
    finally:
        os.umask(before)

    assert (mode_of(env), env.read_bytes()) == (mode, NEW)


def test_owner_and_group_are_kept(sink: EnvFileSink, env: Path) -> None:
    wanted = (NOBODY, NOBODY - 1) if os.geteuid() == 0 else (os.geteuid(), [os.getegid(), *os.getgroups()][-1])
    os.chown(env, *wanted)

    sink.check()
    sink.deliver(SECRET)

    assert (env.stat().st_uid, env.stat().st_gid) == wanted


def test_an_owner_that_cannot_be_kept_is_refused(env: Path, tmp_path: Path) -> None:
    assert "Operation not permitted" in refused_by_a_fake_kernel(env, tmp_path / "state")

    assert (env.read_bytes(), names_in(env.parent)) == (OLD, [".env"])


def refused_by_a_fake_kernel(path: Path, state: Path) -> str:
    """Return what a preflight says where a file is another user's, and cannot be given away."""

    def may_not(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    plain, status = os.fstat, path.stat()
    strange = os.stat_result((*status[:4], os.geteuid() + 1, *status[5:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fchown", may_not)
        patch.setattr(os, "fstat", lambda open_: strange if plain(open_).st_ino == status.st_ino else plain(open_))
        told = refusal(open_sink(path, state))
    assert "owner and group" in str(told.hint)
    return told.message


BECOME_NOBODY = """
import os, sys
from pathlib import Path
from tests.adapters.test_env_file_sink import NOBODY, SECRET, open_sink
from blnkctl.domain.errors import SinkFailed, SinkRefused
sink = open_sink(Path(sys.argv[1], ".env"), Path(sys.argv[1], "state"))
os.setgroups([])
os.setresgid(NOBODY, NOBODY, NOBODY)
os.setresuid(NOBODY, NOBODY, NOBODY)
for act in (sink.check, lambda: sink.deliver(SECRET)):
    try:
        act()
    except (SinkRefused, SinkFailed) as problem:
        print(problem.code, problem.message)
"""


def test_another_user_cannot_hand_a_file_to_its_owner(env: Path) -> None:
    """One who may read the file and write into its directory, as the kernel sees it; only root can become one."""
    with TemporaryDirectory(prefix="blnkctl-sink-") as place:  # where others can go, unlike the tests' own
        directory = Path(place)
        shutil.copy(env, directory / ".env")
        (directory / ".env").chmod(0o640)
        told = _told_to_nobody(directory) if os.geteuid() == 0 else _told_by_a_fake_kernel(directory)

        assert told.count("Operation not permitted") == 2
        assert ((directory / ".env").read_bytes(), mode_of(directory / ".env")) == (OLD, 0o640)
        assert {path.name for path in directory.iterdir()} <= {".env", "state"}


def _told_to_nobody(directory: Path) -> str:
    os.chown(directory, NOBODY, NOBODY)
    os.chown(directory / ".env", 0, NOBODY)
    words = [sys.executable, "-c", BECOME_NOBODY, str(directory)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def _told_by_a_fake_kernel(directory: Path) -> str:
    return refused_by_a_fake_kernel(directory / ".env", directory / "state") * 2


def test_access_lists_and_attributes_are_kept_and_none_is_added(sink: EnvFileSink, env: Path) -> None:
    entries = [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 4, 12345),
        (0x04, 0, 0xFFFFFFFF),
        (0x10, 4, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    default = acl.replace(struct.pack("<I", 12345), struct.pack("<I", 54321))
    _give(env.parent, "system.posix_acl_default", default)
    given = {"user.note": b"mine", "system.posix_acl_access": acl}
    wanted = {name: value for name, value in given.items() if _give(env, name, value)}

    sink.check()
    sink.deliver(SECRET)

    assert {name: os.getxattr(env, name) for name in os.listxattr(env)} == wanted


def _give(path: Path, name: str, value: bytes) -> bool:
    """Set an attribute; tell whether the file system has such."""
    with suppress(OSError):
        os.setxattr(path, name, value)
        return True
    return False


def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_sink(tmp_path / "new.env", tmp_path / "state").deliver(SECRET)
    finally:
        os.umask(before)

    assert mode_of(tmp_path / "new.env") == 0o600
    assert (tmp_path / "new.env").read_text() == f"KEY={SECRET.reveal()}\n"


def test_a_file_that_has_the_secret_already_is_not_written(sink: EnvFileSink, env: Path) -> None:
    sink.deliver(SECRET)
    before = env.stat()

    sink.deliver(SECRET)

    assert env.stat() == before


def test_however_a_file_is_named_it_is_one_target(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(env.parent)
    monkeypatch.chdir(tmp_path)
    names = [env, Path("app/.env"), Path("link/.env"), tmp_path / "app/../app/.env"]

    assert {open_sink(path, tmp_path).target for path in names} == {f"{env}#KEY"}


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_file_that_everybody_can_read_or_write_is_refused(mode: int, sink: EnvFileSink, env: Path) -> None:
    env.chmod(mode)

    told = refusal(sink)

    assert f"everybody can read or write it (mode {mode:04o})" in told.message
    assert told.hint == f"Close it: chmod o-rw {env}"


def test_a_directory_that_everybody_can_write_into_is_refused(sink: EnvFileSink, env: Path) -> None:
    env.parent.chmod(0o1777)

    assert "everybody can write into" in refusal(sink).message


def test_links_directories_pipes_and_huge_files_are_refused(env: Path, tmp_path: Path) -> None:
    app = env.parent
    (app / "link").symlink_to(env)
    (app / "dangling").symlink_to(app / "nowhere")
    (app / "twice").hardlink_to(env)
    os.mkfifo(app / "pipe", 0o600)
    (app / "directory").mkdir(0o700)
    (app / "huge").write_bytes(b"#" * (regular_files.LONGEST + 1))
    (app / "huge").chmod(0o600)

    told = {name: refusal(open_sink(app / name, tmp_path)).message for name in names_in(app)}

    reasons = {
        "link": "it is a symbolic link",
        "dangling": "it is a symbolic link",
        "twice": "it has 2 hard links",
        ".env": "it has 2 hard links",
        "pipe": "it is not a regular file",
        "directory": "it is not a regular file",
        "huge": "it has more than 1 MiB",
    }
    assert {name: reason for name, reason in reasons.items() if reason not in told.pop(name)} == {}
    assert told == {}
    assert not (app / "nowhere").exists()


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path) -> None:
    told = refusal(open_sink(tmp_path / "app" / ".env", tmp_path / "state"))

    assert f"there is no directory {tmp_path}/app" in told.message
    assert told.hint == f"Make it: mkdir -p {tmp_path}/app"
    assert not (tmp_path / "app").exists()


def test_a_file_mounted_by_itself_is_refused(
    sink: EnvFileSink, env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 2 8:1 / / rw - ext4 /dev/a rw\n3 1 8:1 /x {env} rw - ext4 /dev/a rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)

    assert "mounted as a single file" in refusal(sink).message


def test_a_directory_in_which_nothing_may_be_written_is_refused(env: Path, tmp_path: Path) -> None:
    env.parent.chmod(0o555)
    sink = open_sink(env, tmp_path / "state")

    with FaultyDisk(env.parent, first=1, error=errno.EROFS), pytest.raises(SinkRefused) as refused:
        sink.check()

    assert "Read-only file system" in refused.value.message
    env.parent.chmod(0o755)


def test_a_full_disk_is_met_before_anything_is_sent(sink: EnvFileSink, env: Path) -> None:
    with FaultyDisk(env.parent, first=2), pytest.raises(SinkRefused) as refused:
        sink.check()

    assert "No space left on device" in refused.value.message
    assert (env.read_bytes(), names_in(env.parent)) == (OLD, [".env"])


@pytest.mark.parametrize("first", range(1, 5))
def test_whatever_fails_the_file_is_old_or_new_and_nothing_is_beside_it(
    first: int, sink: EnvFileSink, env: Path
) -> None:
    kinds = frozenset({"create", "write", "fsync", "replace"})
    with suppress(SinkFailed), FaultyDisk(env.parent, first=first, lasting=1, error=errno.EIO, kinds=kinds) as disk:
        sink.deliver(SECRET)

    assert disk.has_failed
    assert env.read_bytes() in (OLD, NEW)
    assert names_in(env.parent) == [".env"]


def test_a_file_that_readers_take_differently_is_refused_with_its_line(sink: EnvFileSink, env: Path) -> None:
    env.write_bytes(b"KEY=a\nB=1\nKEY=b\n")

    told = refusal(sink)

    assert "line 3 sets KEY once more" in told.message
    assert sink.read() == Secret("b")


def test_a_secret_that_would_need_quotes_is_not_written(sink: EnvFileSink, env: Path) -> None:
    with pytest.raises(SinkFailed, match="readers of env files take differently"):
        sink.deliver(Secret("pass phrase $x"))

    assert env.read_bytes() == OLD


@pytest.mark.parametrize("content", [b"", b"KEY=\n", b"OTHER=x\n", b"KEY=' x'\n", b"KEY=\xff\n"])
def test_a_file_without_such_a_secret_reads_as_none(content: bytes, sink: EnvFileSink, env: Path) -> None:
    env.write_bytes(content)

    assert sink.read() is None


def test_a_file_that_cannot_be_read_back_is_told(sink: EnvFileSink, env: Path) -> None:
    env.unlink()
    env.symlink_to(env.parent)

    with pytest.raises(SinkFailed, match="symbolic link"):
        sink.read()


# --- others at work ---------------------------------------------------------------------------


def test_an_edit_in_between_is_kept(sink: EnvFileSink, env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, edits = with_value, [b"EDITED=1\n", b"EDITED=2\n"]

    def edited_meanwhile(content: bytes, name: str, value: str) -> bytes:
        if edits:
            env.write_bytes(env.read_bytes() + b"\n" + edits.pop(0))
        return plain(content, name, value)

    monkeypatch.setattr(env_file, "with_value", edited_meanwhile)

    sink.deliver(SECRET)

    assert env.read_bytes() == NEW + b"\nEDITED=1\n\nEDITED=2\n"


def test_a_file_that_never_stands_still_is_left_to_whoever_writes_it(
    sink: EnvFileSink, env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = with_value

    def edited_meanwhile(content: bytes, name: str, value: str) -> bytes:
        env.write_bytes(env.read_bytes() + b"\n")
        return plain(content, name, value)

    monkeypatch.setattr(env_file, "with_value", edited_meanwhile)

    with pytest.raises(SinkFailed, match="another program keeps changing it"):
        sink.deliver(SECRET)

    assert env.read_bytes() == OLD + b"\n\n\n"


def test_a_new_file_that_appears_in_between_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.env"
    plain = with_value

    def made_meanwhile(content: bytes, name: str, value: str) -> bytes:
        if not path.exists():
            path.touch(0o600)
            path.write_bytes(b"THEIRS=1\n")
        return plain(content, name, value)

    monkeypatch.setattr(env_file, "with_value", made_meanwhile)

    open_sink(path, tmp_path / "state").deliver(SECRET)

    assert path.read_text() == f"THEIRS=1\nKEY={SECRET.reveal()}\n"


def test_a_file_that_another_blnkctl_writes_is_waited_for(env: Path, tmp_path: Path) -> None:
    sink = open_sink(env, tmp_path / "state", patience=0.1)
    with LockDirectory(tmp_path / "state" / "locks").hold([f"sink:{env}"], "it"):
        with pytest.raises(SinkFailed) as failed:
            sink.deliver(SECRET)
        open_sink(env.parent / "other.env", tmp_path / "state", patience=0.1).deliver(OTHER)

    assert failed.value.message == f"{env}#KEY: another blnkctl is at work on it."
    assert env.read_bytes() == OLD
    sink.deliver(SECRET)


def test_where_no_lock_can_be_had_the_delivery_fails(env: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")

    with pytest.raises(SinkFailed, match="no lock could be taken"):
        open_sink(env, tmp_path / "state").deliver(SECRET)


def test_variables_of_one_file_delivered_at_once_are_all_there(env: Path, tmp_path: Path) -> None:
    writers = [_start(env, tmp_path, f"KEY{number}") for number in range(4)]
    for writer in writers:
        writer.communicate(f"{SECRET.reveal()}\n", timeout=60)

    assert [writer.returncode for writer in writers] == [0] * 4
    lines = env.read_text().splitlines()
    assert lines[:4] == OLD.decode().splitlines()
    assert sorted(lines[4:]) == [f"KEY{number}={SECRET.reveal()}" for number in range(4)]


def _start(path: Path, state: Path, variable: str = "KEY") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", DELIVER, path, state, variable],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_kill_leaves_the_old_or_the_new_file_whole_and_the_next_delivery_cleans_up(
    env: Path, tmp_path: Path
) -> None:
    secrets = [Secret(letter * 43 + "=") for letter in "abcdefgh"]
    for number in range(6):
        writer = _start(env, tmp_path / "state")
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.stdin.write("".join(f"{secret.reveal()}\n" for secret in secrets * 40))
        writer.stdin.flush()
        time.sleep(0.005 + 0.011 * number)
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=60)
        writer.stdout.close()
        with suppress(BrokenPipeError):
            writer.stdin.close()

        whole = [OLD, NEW, *(OLD.replace(b"old", secret.reveal().encode()) for secret in secrets)]
        assert env.read_bytes() in whole
        open_sink(env, tmp_path / "state").deliver(SECRET)
        assert (env.read_bytes(), names_in(env.parent)) == (NEW, [".env"])


def test_what_a_killed_delivery_left_is_removed_and_nothing_else(sink: EnvFileSink, env: Path) -> None:
    left = rewrites._write_beside(env, b"KEY=secret", None)
    others = rewrites._write_beside(env.with_name("other.env"), b"KEY=secret", None)
    assert mode_of(left) == 0o600

    sink.deliver(SECRET)

    assert names_in(env.parent) == sorted([".env", others.name])


# --- git --------------------------------------------------------------------------------------


@pytest.fixture
def repository(env: Path) -> Path:
    """Return a repository, two directories above the env file."""
    git(env.parent.parent, "init", "-q")
    return env.parent.parent


def git(directory: Path, *words: str) -> None:
    """Run git as its owner would."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run([program("git"), "-C", directory, *words], check=True, env=environment, timeout=60)


def test_a_file_that_git_does_not_ignore_is_refused_with_the_line_to_add(
    sink: EnvFileSink, env: Path, repository: Path
) -> None:
    told = refusal(sink)
    assert f"git does not ignore it, in {repository}" in told.message
    assert told.hint == f"Add this line to {repository}/.gitignore: /app/.env"

    (repository / ".gitignore").write_text("/app/.env\n")
    sink.check()
    sink.deliver(SECRET)
    assert env.read_bytes() == NEW


@pytest.mark.parametrize(
    "name", ["a b.env", "w*ld?.env", "[x].env", "!not.env", "#hash.env", "back\\slash", ":(top)x", " x ", "-f"]
)
def test_the_line_to_add_ignores_that_very_file(name: str, env: Path, tmp_path: Path, repository: Path) -> None:
    sink = open_sink(env.parent / name, tmp_path / "state")
    hint = str(refusal(sink).hint)

    line = hint.partition(": ")[2]
    (repository / ".gitignore").write_text(f"{line}\n")

    sink.check()


def test_a_file_that_git_tracks_is_refused_even_where_it_is_ignored(
    sink: EnvFileSink, env: Path, repository: Path
) -> None:
    git(repository, "add", "app/.env")
    (repository / ".gitignore").write_text(".env\n")

    assert "git tracks it" in refusal(sink).message
    git(repository, "rm", "-q", "--cached", "app/.env")
    sink.check()


def test_a_new_file_below_a_repository_is_refused_too(tmp_path: Path, repository: Path) -> None:
    assert "git does not ignore it" in refusal(open_sink(tmp_path / "new.env", tmp_path / "state")).message
    assert not (tmp_path / "new.env").exists()


def test_without_git_a_file_in_a_repository_is_refused_and_another_is_not(
    env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PATH", str(tmp_path))
    open_sink(env, tmp_path / "state").check()

    (tmp_path / ".git").mkdir()
    told = refusal(open_sink(env, tmp_path / "state"))

    assert "cannot be asked (git: No such file or directory)" in told.message


def test_an_empty_git_directory_is_no_repository(sink: EnvFileSink, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    sink.check()


def test_a_repository_that_git_refuses_is_refused_in_its_words(
    sink: EnvFileSink, repository: Path, tmp_path: Path
) -> None:
    (repository / ".git" / "config").write_text("[core\n")

    told = refusal(sink)

    assert "git cannot tell whether it ignores it (fatal: bad config line 1" in told.message


def test_a_git_that_hangs_is_not_waited_for(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "bin" / "git").chmod(0o700)
    (tmp_path / ".git").mkdir()
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("blnkctl.adapters.sinks.git.GIT_SECONDS", 0.2)

    with pytest.raises(SinkRefused, match=r"git did not tell within 0\.2 s"):
        open_sink(env, tmp_path / "state").check()


def test_no_program_that_the_repository_names_is_run(sink: EnvFileSink, repository: Path) -> None:
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository}/sprung\n")
    trap.chmod(0o700)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "core.hooksPath", str(repository))
    (repository / ".gitignore").write_text("*\n")

    sink.check()

    assert not (repository / "sprung").exists()
