"""Reading one variable of an env file, as dotenv and shells write it."""

import os
from pathlib import Path

import pytest

from blnkctl.adapters.sinks.env_values import read_env_value
from blnkctl.domain.errors import UnusableSecret, UsageError

VALUE = "3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I="


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """Return a private file."""
    path = tmp_path / ".env"
    path.touch(0o600)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "KEY={}", "KEY='{}'", 'KEY="{}"', "export KEY={}", "  export  KEY = {}  ", "KEY={} # prod",
        "KEY='{}'  # prod", 'KEY="{}"# prod', "KEY={}\r", "\ufeffKEY={}", "#KEY=x\nKEY={}\nOTHER=y",
        "KEY=old\nKEY={}", "XKEY=x\nKEY={}\nKEYX=y",
    ],
)  # fmt: skip
def test_a_value_is_read_as_it_is_meant(line: str, env_file: Path) -> None:
    env_file.write_bytes(f"{line.format(VALUE)}\n".encode())

    value = read_env_value(env_file, "KEY")

    assert (value.secret.reveal(), value.open_mode) == (VALUE, None)


@pytest.mark.parametrize(("text", "meant"), [(r'"a\"b\\c\$d"', r'a"b\c$d'), ("'a#b'", "a#b"), ("a#b", "a#b")])
def test_quotes_and_escapes_are_undone(text: str, meant: str, env_file: Path) -> None:
    env_file.write_text(f"KEY={text}\n")

    assert read_env_value(env_file, "KEY").secret.reveal() == meant


@pytest.mark.parametrize("content", ["", "OTHER=x\n", "# KEY=x\n", "KEYS=x\n", "KEY\n", "key=x\n"])
def test_a_variable_that_is_not_there_is_told(content: str, env_file: Path) -> None:
    env_file.write_text(content)

    with pytest.raises(UsageError) as told:
        read_env_value(env_file, "KEY")

    assert told.value.code == "no_variable"


@pytest.mark.parametrize("content", [b"KEY=\n", b"KEY=''\n", b"KEY=' x'\n", b"KEY=\xff\xfe\n"])
def test_a_value_that_can_be_no_secret_is_refused_and_not_quoted(content: bytes, env_file: Path) -> None:
    env_file.write_bytes(content)

    with pytest.raises(UnusableSecret):
        read_env_value(env_file, "KEY")


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604])
def test_a_file_that_others_can_read_is_told_of(mode: int, env_file: Path) -> None:
    env_file.write_text(f"KEY={VALUE}\n")
    env_file.chmod(mode)

    assert read_env_value(env_file, "KEY").open_mode == mode


def test_a_link_a_directory_a_pipe_a_huge_and_a_missing_file_are_refused(tmp_path: Path, env_file: Path) -> None:
    env_file.write_text(f"KEY={VALUE}\n")
    (tmp_path / "link").symlink_to(env_file)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(b"x" * ((1 << 20) + 1))

    told = {}
    for name in ("link", ".", "pipe", "huge", "missing"):
        with pytest.raises(UsageError) as refused:
            read_env_value(tmp_path / name, "KEY")
        told[name] = refused.value.message

    assert "symbolic link" in told["link"]
    assert "not a regular file" in told["."]
    assert "not a regular file" in told["pipe"]
    assert "more than 1 MiB" in told["huge"]
    assert all("Nothing was stored." in message for message in told.values())
