"""The configuration file: read strictly, changed without touching what others wrote, never half written."""

import os
import stat
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.adapters.config import ConfigurationFile
from blnkctl.domain.contexts import AdminKeySource, Configuration, Context
from blnkctl.domain.errors import NotConfigured, UsageError
from blnkctl.domain.servers import parse_server_url
from tests.faulty_disk import FaultyDisk

PROD = Context(
    name="prod",
    url=parse_server_url("https://ledger.example.com"),
    store="age",
    owners=("acme", "größe [eu]"),
    admin_key=AdminKeySource(command="pass show 'blnk/prod'"),
    ca_file="/etc/ssl/own.pem",
    allow_http=True,
    protected=True,
    grace=timedelta(days=7),
)
CI = Context(name="ci.eu-1", url=parse_server_url("http://127.0.0.1:5001/blnk"))

WRITTEN_BY_HAND = """\
# Our servers. Ask Ann before changing anything.
current = "prod"   # the one in use
theme = "dark"

[contexts.prod]
# the real one
url = "https://ledger.example.com"
store = "age"
owners = [
    "acme",   # since 2024
    "globex",
]
colour = "red"
admin_key = { command = "pass show blnk" }

[plugins]
some = { thing = [1, 2] }

[contexts.staging]   # thrown away in summer
url = "https://staging.example.com"
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigurationFile:
    """Return a configuration file in a directory that does not exist yet."""
    return ConfigurationFile(tmp_path / "config")


def write_by_hand(file: ConfigurationFile, content: str = WRITTEN_BY_HAND) -> str:
    """Write the file as a person does."""
    file.path.parent.mkdir(mode=0o700, exist_ok=True)
    file.path.write_text(content)
    return content


def without(content: str, *lines: str) -> str:
    """Return content without the lines that begin so."""
    kept = [line for line in content.splitlines(keepends=True) if not line.startswith(lines)]
    return "".join(kept)


# --- what is written comes back ---------------------------------------------------------------


def test_contexts_come_back_as_they_were_saved(file: ConfigurationFile) -> None:
    file.save_context(PROD, make_current=True)
    file.save_context(CI, make_current=False)

    assert ConfigurationFile(file.path.parent).load() == Configuration((PROD, CI), "prod")


def test_without_a_file_there_are_no_contexts_and_none_is_made(file: ConfigurationFile) -> None:
    assert file.load() == Configuration()
    assert not file.path.parent.exists()


def test_a_setting_that_is_taken_back_leaves_the_file(file: ConfigurationFile) -> None:
    file.save_context(PROD, make_current=True)

    file.save_context(Context("prod", PROD.url), make_current=False)

    left = tomllib.loads(file.path.read_text())
    assert left == {"current": "prod", "contexts": {"prod": {"url": "https://ledger.example.com"}}}


def test_what_is_exported_is_what_a_file_holds(file: ConfigurationFile) -> None:
    text = file.export([PROD, CI])

    assert file.parse(text, "prod.toml") == Configuration((PROD, CI))


def test_a_grace_is_text_that_can_be_typed(file: ConfigurationFile) -> None:
    file.save_context(PROD, make_current=True)

    assert tomllib.loads(file.path.read_text())["contexts"]["prod"]["grace"] == "7d"


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text),
    st.text(),
    st.lists(st.text(), max_size=3),
)
def test_any_text_comes_back(command: str, ca_file: str, owners: list[str]) -> None:
    context = Context("c", CI.url, owners=tuple(owners), admin_key=AdminKeySource(command=command), ca_file=ca_file)

    text = ConfigurationFile(Path("/nowhere")).export([context])

    assert ConfigurationFile(Path("/nowhere")).parse(text, "x").contexts == (context,)


# --- what others wrote stays ------------------------------------------------------------------


def test_choosing_another_context_changes_that_word_alone(file: ConfigurationFile) -> None:
    content = write_by_hand(file)

    file.use_context("staging")

    assert file.path.read_text() == content.replace('current = "prod"', 'current = "staging"')


def test_changing_a_context_keeps_comments_unknown_keys_and_order(file: ConfigurationFile) -> None:
    content = write_by_hand(file)
    before = file.load().find("prod")
    assert before is not None

    file.save_context(
        Context("prod", parse_server_url("https://new.example.com"), "age", before.owners), make_current=False
    )

    after = file.path.read_text()
    assert tomllib.loads(after)["contexts"]["prod"] == {
        "url": "https://new.example.com",
        "store": "age",
        "owners": ["acme", "globex"],
        "colour": "red",
    }
    comments = (
        "# Our servers. Ask Ann",
        "# the one in use",
        "# the real one",
        "# since 2024",
        "# thrown away in summer",
    )
    assert all(comment in after for comment in comments)
    assert without(after, "url", "owners", "    ", "]") == without(content, "url", "owners", "    ", "]", "admin_key")


def test_adding_a_context_leaves_every_line_as_it_was(file: ConfigurationFile) -> None:
    content = write_by_hand(file)

    file.save_context(CI, make_current=False)

    after = file.path.read_text()
    assert set(content.splitlines()) <= set(after.splitlines())
    assert {context.name for context in file.load().contexts} == {"prod", "staging", "ci.eu-1"}
    assert file.load().find("ci.eu-1") == CI


def test_removing_the_context_in_use_leaves_none_in_use(file: ConfigurationFile) -> None:
    write_by_hand(file)

    file.remove_context("prod")

    left = tomllib.loads(file.path.read_text())
    assert left == {
        "theme": "dark",
        "plugins": {"some": {"thing": [1, 2]}},
        "contexts": {"staging": {"url": "https://staging.example.com"}},
    }


def test_removing_another_context_keeps_the_one_in_use(file: ConfigurationFile) -> None:
    write_by_hand(file)

    file.remove_context("staging")

    assert (file.load().current, [context.name for context in file.load().contexts]) == ("prod", ["prod"])


def test_a_renamed_context_keeps_everything_and_stays_in_use(file: ConfigurationFile) -> None:
    write_by_hand(file)
    before = tomllib.loads(file.path.read_text())

    file.rename_context("prod", "production.eu")

    after = tomllib.loads(file.path.read_text())
    assert after["contexts"]["production.eu"] == before["contexts"]["prod"]
    assert set(after["contexts"]) == {"production.eu", "staging"}
    assert (after["current"], after["theme"], after["plugins"]) == ("production.eu", "dark", before["plugins"])
    assert "# the real one" in file.path.read_text()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        "# only a comment\n",
        'contexts = { staging = { url = "https://s.example.com" } }\n',
        'contexts.staging.url = "https://s.example.com"\n',
        '[contexts]\nstaging = { url = "https://s.example.com" }\n',
        '[contexts.staging]\nurl = "https://s.example.com"\n[other]\na = 1\n[contexts.more]\nurl = "http://localhost"\n',
        'theme = "dark"\r\n[contexts.staging]\r\nurl = "https://s.example.com"\r\n',
        '[contexts.staging]\nurl = "https://s.example.com"',
    ],
    ids=["empty", "blank", "comment", "inline", "dotted", "half inline", "apart", "CRLF", "no last newline"],
)
@pytest.mark.parametrize("change", ["save", "use", "rename", "remove"])
def test_however_a_file_is_laid_out_it_can_be_changed(file: ConfigurationFile, content: str, change: str) -> None:
    write_by_hand(file, content)
    before = {context.name: context for context in file.load().contexts}
    if "staging" not in before and change in ("rename", "remove"):
        file.save_context(Context("staging", PROD.url), make_current=False)
        before = {context.name: context for context in file.load().contexts}
    changes: dict[str, Callable[[], None]] = {
        "save": lambda: file.save_context(PROD, make_current=True),
        "use": lambda: file.use_context("staging"),
        "rename": lambda: file.rename_context("staging", "renamed"),
        "remove": lambda: file.remove_context("staging"),
    }

    changes[change]()

    names = set(before) | {"prod"} if change == "save" else set(before)
    if change in ("rename", "remove"):
        names = (names - {"staging"}) | ({"renamed"} if change == "rename" else set())
    after = file.load()
    assert {context.name for context in after.contexts} == names
    assert after.current == {"save": "prod", "use": "staging"}.get(change)
    assert all(after.find(name) == context for name, context in before.items() if name != "staging")
    if change == "save":
        assert after.find("prod") == PROD


def test_unknown_keys_are_told_wherever_they_stand(file: ConfigurationFile) -> None:
    write_by_hand(file)

    assert file.load().unknown == ("theme", "plugins", "contexts.prod.colour")


# --- what cannot be used ----------------------------------------------------------------------


def refusal(file: ConfigurationFile) -> NotConfigured:
    """Return the error of reading."""
    with pytest.raises(NotConfigured) as refused:
        file.load()
    return refused.value


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("current = 7", "'current' is no text"),
        ("contexts = []", "'contexts' is no table"),
        ("contexts = 'prod'", "'contexts' is no table"),
        ("contexts.a = 'https://a'", "'contexts.a' is no table"),
        ("[[contexts.a]]\nurl = 'https://a'", "'contexts.a' is no table"),
        ("[contexts.a]", "'contexts.a': '' is not an http or https URL"),
        ("contexts.a.url = 1", "'contexts.a.url' is no text"),
        ("contexts.a.url = 'ftp://a'", "'contexts.a': 'ftp://a' is not an http or https URL"),
        (
            "contexts.a.url = 'https://u:p@a'",
            "'contexts.a': The URL carries a user or a password; Blnk takes neither",
        ),
        ("contexts.'a b'.url = 'https://a'", "'contexts.a b': A context's name is 1 to 64 letters"),
        ("contexts.a = {url = 'https://a', store = 1}", "'contexts.a.store' is no text"),
        ("contexts.a = {url = 'https://a', store = 'x'}", "'contexts.a.store' is 'x'; this version has os, age"),
        ("contexts.a = {url = 'https://a', owners = 'x'}", "'contexts.a.owners' is no list of texts"),
        ("contexts.a = {url = 'https://a', owners = ['x', 1]}", "'contexts.a.owners' is no list of texts"),
        ("contexts.a = {url = 'https://a', ca_file = true}", "'contexts.a.ca_file' is no text"),
        ("contexts.a = {url = 'https://a', allow_http = 'no'}", "'contexts.a.allow_http' is neither true nor false"),
        ("contexts.a = {url = 'https://a', protected = 1}", "'contexts.a.protected' is neither true nor false"),
        ("contexts.a = {url = 'https://a', grace = 24}", "'contexts.a.grace' is no text"),
        ("contexts.a = {url = 'https://a', grace = 'long'}", "'contexts.a.grace' 'long' is no duration"),
        (
            "contexts.a = {url = 'https://a', grace = '5m'}",
            "'contexts.a.grace' '5m': 'm' could mean minutes or months",
        ),
        ("contexts.a = {url = 'https://a', grace = '0h'}", "'contexts.a.grace' '0h' is no time to come"),
        ("contexts.a = {url = 'https://a', grace = '2y'}", "'contexts.a.grace' '2y' is more than a year"),
        ("contexts.a = {url = 'https://a', admin_key = 'x'}", "'contexts.a.admin_key' is neither {command"),
        ("contexts.a = {url = 'https://a', admin_key = {value = 'x'}}", "'contexts.a.admin_key' is neither {command"),
        ("contexts.a = {url = 'https://a', admin_key = {file = 1}}", "'contexts.a.admin_key.file' is no text"),
        ("contexts.a = {url = 'https://a', admin_key = {command = []}}", "'contexts.a.admin_key.command' is no text"),
        (
            "contexts.a = {url = 'https://a', admin_key = {file = 'f', command = 'c'}}",
            "'contexts.a.admin_key' is neither {command",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_path(file: ConfigurationFile, content: str, what: str) -> None:
    write_by_hand(file, content)

    problem = refusal(file)

    assert problem.message.startswith(f"The configuration {file.path} cannot be used: {what}")
    assert problem.message.endswith(". It was left as it is.")
    assert (problem.code, file.path.read_text()) == ("bad_configuration", content)
    assert problem.hint == "Mend it in an editor, or set BLNKCTL_URL and BLNKCTL_ADMIN_KEY to work without it."


def test_a_key_that_looks_like_a_secret_is_never_quoted(file: ConfigurationFile) -> None:
    write_by_hand(file, "contexts.a = {url = 'https://u:hunter2@a', admin_key = {value = 'hunter2'}}")

    assert "hunter2" not in refusal(file).message


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("current = \n", "at line 1, column 11"),
        ("a = 1\nb = 2\n[contexts.prod\n", "at line 3, column 15"),
        ('a = "unfinished', "at end of document"),
        ("a = 1\na = 2\n", "at line 2, column 6"),
    ],
)
def test_broken_toml_is_told_with_line_and_column_and_left_alone(
    file: ConfigurationFile, content: str, where: str
) -> None:
    write_by_hand(file, content)

    problem = refusal(file)

    assert where in problem.message
    assert problem.message.endswith("It was left as it is.")
    assert file.path.read_text() == content


def test_a_file_that_is_no_text_is_told(file: ConfigurationFile) -> None:
    write_by_hand(file)
    file.path.write_bytes(b"\xff\xfe\x00")

    assert f"The configuration {file.path} could not be read: " in refusal(file).message


def test_a_directory_in_the_place_of_the_file_is_told(file: ConfigurationFile) -> None:
    file.path.mkdir(parents=True)

    assert refusal(file).message == f"The configuration {file.path} could not be read: Is a directory."


def test_the_file_of_somebody_else_is_told_by_its_own_name(file: ConfigurationFile) -> None:
    with pytest.raises(UsageError) as refused:
        file.parse("contexts = 1", "taken.toml")

    assert refused.value.message == (
        "taken.toml holds no contexts that can be used: 'contexts' is no table. Nothing was taken."
    )


# --- private and whole ------------------------------------------------------------------------


def test_the_file_is_for_us_alone_whatever_the_umask_and_whatever_it_was(file: ConfigurationFile) -> None:
    write_by_hand(file)
    file.path.chmod(0o644)

    before = os.umask(0)
    try:
        file.use_context("staging")
        ConfigurationFile(file.path.parent / "a" / "b").save_context(PROD, make_current=True)
    finally:
        os.umask(before)

    files = [path for path in file.path.parent.rglob("*") if path.is_file()]
    directories = [file.path.parent, *(path for path in file.path.parent.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}
    assert (len(files), len(directories)) == (2, 3)


def test_a_full_disk_leaves_the_file_as_it_was(file: ConfigurationFile) -> None:
    content = write_by_hand(file)

    for point in (1, 2, 3):
        with FaultyDisk(file.path.parent, first=point), pytest.raises(NotConfigured) as refused:
            file.use_context("staging")
        assert refused.value.message == (
            f"The configuration {file.path} could not be written: No space left on device."
        )
        assert file.path.read_text() == content
        assert list(file.path.parent.iterdir()) == [file.path]


def test_a_directory_of_somebody_else_is_not_written_to(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_by_hand(file)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(
        NotConfigured, match=f"could not be written: .* belongs to another user \\(uid {os.getuid()}\\)"
    ):
        file.use_context("staging")

    assert file.path.read_text() == content


def test_a_directory_of_everybody_is_not_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(NotConfigured, match="is shared by every user"):
        ConfigurationFile(tmp_path).save_context(PROD, make_current=True)

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_a_link_is_followed_to_where_it_leads(file: ConfigurationFile, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir(mode=0o700)
    file.path.parent.symlink_to(tmp_path / "dotfiles")

    file.save_context(PROD, make_current=True)

    assert file.path.parent.is_symlink()
    assert ConfigurationFile(tmp_path / "dotfiles").load() == Configuration((PROD,), "prod")


def test_a_link_in_the_place_of_the_file_is_never_written_through(file: ConfigurationFile, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text('theme = "dark"\n')
    file.path.parent.mkdir(mode=0o700)
    file.path.symlink_to(tmp_path / "victim")

    file.save_context(PROD, make_current=True)

    assert (tmp_path / "victim").read_text() == 'theme = "dark"\n'
    assert file.load().find("prod") == PROD
