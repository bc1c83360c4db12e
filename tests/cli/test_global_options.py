"""The options that work everywhere after the root and before `--`; the last one wins."""

import json
import socket
import sqlite3

import pytest

from blnkctl import __version__
from blnkctl.adapters.blnk.server import BlnkServer
from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, add_context, created, data, without_target
from tests.conftest import Blnkctl
from tests.trouble import closed_port

PLACES = [
    ("{}", "keys", "list", "--owner", "acme"),
    ("keys", "{}", "list", "--owner", "acme"),
    ("keys", "list", "{}", "--owner", "acme"),
    ("keys", "list", "--owner", "acme", "{}"),
]


def at(place: tuple[str, ...], *words: str) -> list[str]:
    """Return a command line with words at the marked place."""
    return [part for word in place for part in (words if word == "{}" else (word,))]


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_they_work_at_every_level(place: tuple[str, ...], operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox)
    add_context(operator, "other", sandbox)
    created(operator, *CREATE, "--context", "other")

    outcome = operator.run(*at(place, "--context", "other", "-o", "json", "--timeout", "5s", "-v", "--no-input"))

    assert [key["context"] for key in data(outcome)] == ["other"]
    assert "GET /api-keys?owner=acme -> 200 in " in outcome.err


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_the_last_one_wins(place: tuple[str, ...], operator: Blnkctl) -> None:
    for first, last in (("csv", "json"), ("json", "csv")):
        outcome = operator.run("-o", first, *at(place, "-o", last))
        assert outcome.out.startswith("{" if last == "json" else "id,owner"), (first, last)
    in_one_place = operator.run(*at(place, "-o", "json", "-ocsv", "--output=ids"))
    assert (in_one_place.code, in_one_place.out) == (0, "")


def test_the_flag_beats_the_environment(operator: Blnkctl) -> None:
    created(operator)

    assert operator.run("keys", "list", "-o", "ids", env={"BLNKCTL_OUTPUT": "json"}).out.startswith("api_key_")
    assert json.loads(operator.run("keys", "list", env={"BLNKCTL_OUTPUT": "json"}).out)["status"] == "ok"


def test_what_stands_behind_the_dashes_is_not_ours(operator: Blnkctl) -> None:
    created(operator)

    outcome = operator.spawn("keys", "exec", "acme/billing", "--", "printf", "%s ", "-o", "json", "--timeout", "soon")

    assert (outcome.code, outcome.out) == (0, "-o json --timeout soon ")


def test_quiet_keeps_notes_back_but_neither_warnings_nor_errors(operator: Blnkctl) -> None:
    noted = operator.run(*CREATE, "--quiet", "--expires", "2y")
    failed = operator.run(*CREATE, "-q")

    assert noted.err.startswith("warning: --expires 2y")
    assert len(noted.err.splitlines()) == 1
    assert failed.err.startswith("error: acme/billing exists already")


def test_verbose_tells_each_request_and_no_key(operator: Blnkctl) -> None:
    outcome = operator.run(*CREATE, "--verbose")

    assert "POST /api-keys -> 201 in " in outcome.err
    assert "X-Blnk-Key" not in outcome.err


def test_debug_shows_a_traceback_without_values(operator: Blnkctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("something broke")

    monkeypatch.setattr(BlnkServer, "profile", crash)

    plain = operator.run("keys", "list", "--owner", "acme")
    traced = operator.run("keys", "list", "--owner", "acme", "--debug")

    assert (plain.code, traced.code) == (1, 1)
    assert "Traceback" not in plain.err
    assert "error: blnkctl met a bug of its own (RuntimeError)." in plain.err
    assert "Traceback (most recent call last)" in traced.err


def test_a_time_limit_is_kept(operator: Blnkctl) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        env = {"BLNKCTL_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}

        outcome = operator.run("keys", "list", "--owner", "acme", "--timeout", "1s", env=env)

    assert outcome.code == 1
    assert "within 1 s." in outcome.err


def test_a_reason_is_kept_in_the_journal(operator: Blnkctl) -> None:
    created(operator, *CREATE, "--reason", "quarterly rotation")

    with sqlite3.connect(operator.home / "state" / "state.db") as database:
        rows = database.execute("SELECT actor, reason FROM operations").fetchall()
    database.close()
    assert rows == [("tester@bench", "quarterly rotation")]


@pytest.mark.parametrize(
    "words", [("--version",), ("-q", "--version"), ("--version", "keys", "list"), ("-ojson", "--version")]
)
def test_the_version_is_the_roots_alone(words: tuple[str, ...], operator: Blnkctl) -> None:
    outcome = operator.run(*words)

    assert (outcome.code, outcome.out, outcome.err) == (0, f"blnkctl {__version__}\n", "")
    assert operator.run("keys", "--version").code == 2


def test_the_environment_silences_questions_too(operator: Blnkctl) -> None:
    created(operator)

    for env in ({"CI": "true"}, {"CI": "1"}, {"BLNKCTL_NO_INPUT": "1"}):
        assert operator.run("keys", "revoke", "acme/billing", stdin="y\n", env=env).code == 11


def test_a_default_owner_comes_from_the_environment(operator: Blnkctl) -> None:
    words = ("keys", "create", "ci", "--scope", "ledgers:read", "-o", "json")
    created(operator, "keys", "create", "ci", "--owner", "globex", "--scope", "ledgers:read")

    assert data(operator.run(*words, env={"BLNKCTL_OWNER": "acme"}))["owner"] == "acme"
    listed = data(operator.run("keys", "list", "-o", "json", env={"BLNKCTL_OWNER": "acme"}))
    assert [key["owner"] for key in listed] == ["acme"]


def test_the_default_owner_is_never_a_selector(operator: Blnkctl) -> None:
    created(operator)

    outcome = operator.run("keys", "revoke", "--yes", env={"BLNKCTL_OWNER": "acme"})

    assert outcome.code == 2
    assert data(operator.run("keys", "list", "-o", "json"))[0]["status"] == "active"


def test_nothing_is_asked_of_a_server_for_what_is_known_here(operator: Blnkctl) -> None:
    with closed_port() as port:
        operator.environment["BLNKCTL_URL"] = f"http://127.0.0.1:{port}"
        for words in (
            ("owners", "list"),
            ("store", "status"),
            ("context", "list"),
            ("recover",),
            ("owners", "add", "a"),
        ):
            assert operator.run(*words).code == 0, words
