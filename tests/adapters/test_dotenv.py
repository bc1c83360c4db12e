"""The text of env files: one value is exchanged, every other byte stays, and their readers agree on the result."""

import io
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.adapters.sinks.dotenv import Unclear, check_settable, is_read_alike, value_of, with_value

NEW = "3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I="
KEPT_LINES = st.sampled_from(
    [
        "", "# a comment", "#KEY=commented-out", "OTHER=x", "export OTHER=y", "  INDENTED = z  # why", "KEYS=1",
        "XKEY=2", "MULTI='one\nKEY=inside\n'", 'MULTI="one\nexport KEY=inside\n# no comment\n"', "EMPTY=",
        "SPACE=a b", 'ESCAPED="a\\"b"', "HASH=a#b", "EQUALS=a=b==", "\t", "URL=postgres://u:p@h/db?x=y&z",
        "bare line",
    ]
)  # fmt: skip
TARGET_LINES = st.sampled_from(
    [
        "KEY={}",
        "KEY='{}'",
        'KEY="{}"',
        "export KEY={}",
        "export  KEY='{}'",
        "KEY={} # prod",
        "KEY='{}'  # prod",
        "  KEY={}",
    ]
)
OLD = st.sampled_from(["", "old", "Z66o-IyysaaLiDilkkIIzP4dm53lTZpMLH93GFBsSl_=", "<your", "$OLD"])


def by_dotenv(content: bytes) -> str | None:
    """Return what python-dotenv reads."""
    return dotenv_values(stream=io.StringIO(content.decode(), newline=""), interpolate=False).get("KEY")


def by_docker(content: bytes) -> str | None:
    """Return what `docker run --env-file` reads: lines, split at the first `=`, no quotes and no comments behind."""
    found = None
    for line in content.decode("utf-8-sig").splitlines():
        name, equals, value = line.lstrip().partition("=")
        if equals and name == "KEY":
            found = value
    return found


# --- one line is exchanged --------------------------------------------------------------------


@given(
    before=st.lists(KEPT_LINES, max_size=4),
    after=st.lists(KEPT_LINES, max_size=4),
    line=TARGET_LINES,
    old=OLD,
    line_break=st.sampled_from(["\n", "\r\n"]),
    has_end=st.booleans(),
    bom=st.booleans(),
)
def test_all_but_the_value_stays_byte_for_byte(
    before: list[str], after: list[str], line: str, old: str, line_break: str, has_end: bool, bom: bool
) -> None:
    def text(value: str) -> bytes:
        lines = [*before, line.format(value), *after]
        joined = "\n".join(lines).replace("\n", line_break) + (line_break if has_end else "")
        return (b"\xef\xbb\xbf" if bom else b"") + joined.encode()

    content = text(old)

    changed = with_value(content, "KEY", NEW)

    assert changed == text(NEW)
    assert value_of(changed, "KEY") == NEW
    assert by_dotenv(changed.removeprefix(b"\xef\xbb\xbf")) == NEW
    check_settable(changed, "KEY")


@given(lines=st.lists(KEPT_LINES, max_size=6), line_break=st.sampled_from(["\n", "\r\n"]), has_end=st.booleans())
def test_a_variable_that_was_not_there_is_one_more_line(lines: list[str], line_break: str, has_end: bool) -> None:
    content = "\n".join(lines).replace("\n", line_break).encode() + (line_break.encode() if has_end else b"")

    changed = with_value(content, "KEY", NEW)

    assert changed.startswith(content)
    added = changed.removeprefix(content).decode().split("KEY=")
    assert added[0] in ("", "\n", "\r\n", "export ", "\nexport ", "\r\nexport ")
    assert added[1] in (f"{NEW}\n", f"{NEW}\r\n")
    assert value_of(changed, "KEY") == NEW
    assert by_dotenv(changed) == NEW


JUNK = st.text("KEY=x'\"`\\#$ \t\n\r;&(export)\ufeff\x00ä", max_size=60).map(str.encode) | st.binary(max_size=60)


@given(content=JUNK)
def test_junk_is_refused_or_changed_in_one_place(content: bytes) -> None:
    try:
        changed = with_value(content, "KEY", NEW)
    except Unclear:
        return

    begin, _, end = changed.partition(NEW.encode())
    assert content.startswith(
        begin.removesuffix(b"KEY=").removesuffix(b"export ").removesuffix(b"\n").removesuffix(b"\r")
    )
    assert content.endswith(end) or end in (b"\n", b"\r\n")
    assert value_of(changed, "KEY") == NEW
    assert with_value(changed, "KEY", NEW) == changed


@given(lines=st.lists(st.text("KEY=x'\"`\\#$ \n;&()", max_size=12), max_size=5))
def test_what_python_dotenv_reads_afterwards_is_the_new_value(lines: list[str]) -> None:
    content = "\n".join(lines).encode()
    try:
        changed = with_value(content, "KEY", NEW)
    except Unclear:
        return

    assert by_dotenv(changed) == NEW


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        (b"", b"KEY=new\n"),
        (b"\xef\xbb\xbf", b"\xef\xbb\xbfKEY=new\n"),
        (b"A=1", b"A=1\nKEY=new\n"),
        (b"A=1\r\nB=2", b"A=1\r\nB=2\r\nKEY=new\r\n"),
        (b"export A=1\nexport B=2\n", b"export A=1\nexport B=2\nexport KEY=new\n"),
        (b"export A=1\nB=2\n", b"export A=1\nB=2\nKEY=new\n"),
        (b"KEY=", b"KEY=new"),
        (b"KEY=old   \n", b"KEY=new\n"),
        (b"KEY= # none yet\n", b"KEY=new # none yet\n"),
        (b"KEY=#x\n", b"KEY=new\n"),
        (b"KEY = old # c\n", b"KEY = new # c\n"),
        (b'KEY="two\nlines"\n', b'KEY="new"\n'),
        (b"KEY=''\n", b"KEY='new'\n"),
        (b"KEY=put yours here\n", b"KEY=new\n"),
        (b"A=\xff\xfe\nKEY=x\n\x80", b"A=\xff\xfe\nKEY=new\n\x80"),
    ],
)
def test_the_style_of_the_file_is_kept(content: bytes, changed: bytes) -> None:
    assert with_value(content, "KEY", "new") == changed


# --- where readers differ ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"KEY=a\nKEY=b\n", "line 2 sets KEY once more"),
        (b"KEY=a\nKEY\n", "line 2 names KEY without a value"),
        (b"KEY=a; export KEY\n", "line 1 has a quote, a backslash or a command"),
        (b"KEY=$(pass show x)\n", "line 1 has a quote, a backslash or a command"),
        (b"KEY=a'b'\n", "line 1 has a quote, a backslash or a command"),
        (b"\nKEY='a'b\n", "line 2 goes on behind the quoted value"),
        (b"KEY='a'\"b\"\n", "line 1 has more than one quoted value"),
        (b"A='b\nKEY=x\n", "line 1 opens a quote that is not closed"),
        (b"A='b\\'\nKEY=x\n", "line 1 has a backslash before the closing quote"),
        (b"A=b\\\nKEY=x\n", "line 2 stands behind a line that ends in a backslash"),
        (b"A=b\\\r\nKEY=x\r\n", "line 2 stands behind a line that ends in a backslash"),
        (b"A=b\\", "line 1 ends in a backslash"),
        (b"A=x'y\nKEY=1\n'\n", "line 2 stands inside a quoted value, as a shell reads it"),
        (b'echo "\nKEY=1\n"\n', "line 2 stands inside a quoted value, as a shell reads it"),
        (b"A=`x\nKEY=1\n`\n", "line 2 stands inside a quoted value, as a shell reads it"),
        (b"A=1\rKEY=2\n", "line 1 holds a NUL byte, or a carriage return alone"),
        ("KEY=1\n".encode("utf-16"), "line 1 holds a NUL byte"),
    ],
)
def test_a_file_that_its_readers_take_differently_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(Unclear) as unclear:
        with_value(content, "KEY", NEW)

    assert str(unclear.value).startswith(why)


def test_what_stands_inside_a_value_of_several_lines_is_no_assignment() -> None:
    content = b"A='\nKEY=inside\n'\nB=\"\nKEY=inside\n\"\n"

    changed = with_value(content, "KEY", NEW)

    assert value_of(content, "KEY") is None
    assert changed == content + f"KEY={NEW}\n".encode()


@pytest.mark.parametrize(
    "value", ["a b", "a'b", 'a"b', "a$b", "a\\b", "a#b", "a`b", "", "a;b", "ä", "a\nb", "{a}", "~"]
)
def test_a_value_that_would_need_quotes_is_not_read_alike(value: str) -> None:
    assert is_read_alike(value) is False


def test_a_key_of_the_server_is_read_alike_by_all_of_them(tmp_path: Path) -> None:
    assert is_read_alike(NEW)
    path = tmp_path / "env"
    for content in (b"", b"A=1\nKEY=old\nB='x\ny'\n", b"KEY=old\n", b"A=1"):
        path.write_bytes(with_value(content, "KEY", NEW))

        read = {
            by_dotenv(path.read_bytes()),
            by_docker(path.read_bytes()),
            by_shell(path),
            value_of(path.read_bytes(), "KEY"),
        }

        assert read == {NEW}


def by_shell(path: Path) -> str:
    """Return what `sh` reads."""
    done = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$KEY"', "sh", path], capture_output=True, text=True, check=True, env={}
    )
    return done.stdout


@given(before=st.lists(KEPT_LINES.filter(lambda line: "INDENTED" not in line and "bare" not in line), max_size=3),
       line=TARGET_LINES, old=OLD)  # fmt: skip
def test_a_shell_reads_the_new_value(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], line: str, old: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "shell-env"
    readable = [one for one in before if "&" not in one and "SPACE" not in one]

    path.write_bytes(with_value("\n".join([*readable, line.format(old), ""]).encode(), "KEY", NEW))

    assert by_shell(path) == NEW
