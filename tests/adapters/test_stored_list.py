"""What only the search for a key asks of server and journal: rows with their stored form, and keys by fingerprint."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blnkctl.adapters.bcrypt_forms import BcryptForms
from blnkctl.adapters.blnk.answers import NotBlnks, read_key_list, read_stored_list
from blnkctl.adapters.state import StateFile
from blnkctl.domain.errors import Refused, ServerTrouble
from blnkctl.domain.keys import KeySpec, StorageScheme
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret
from tests.adapters.test_blnk_answers import CREATED, LISTS
from tests.usecases.fakes import EXPIRY, FakeClock, a_key, emulated, known_as

SPEC = KeySpec("billing", "acme", ("ledgers:read",), EXPIRY)
SCHEMES = {
    "0.12.0": StorageScheme.SHA256,
    "0.13.2": StorageScheme.BCRYPT,
    "0.14.5": StorageScheme.BCRYPT,
    "0.15.2": StorageScheme.BCRYPT,
}


def test_the_rows_are_those_of_the_other_list() -> None:
    for body in LISTS:
        assert [row for row, _ in read_stored_list([body.encode()])] == list(read_key_list([body.encode()]))


def test_what_real_servers_stored_matches_the_secrets_that_they_handed_out() -> None:
    forms = {row.id: form for body in LISTS for row, form in read_stored_list([body.encode()])}
    issued = {record["api_key_id"]: record["key"] for record in CREATED if record["api_key_id"] in forms}
    slow = [id_ for id_ in issued if forms[id_].is_bcrypt]
    strange = Secret("3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I=")

    assert {form.scheme for form in forms.values()} == set(StorageScheme) - {StorageScheme.UNKNOWN}
    assert all(forms[id_].matches_at_once(Secret(issued[id_])) for id_ in issued if id_ not in slow)
    assert all(BcryptForms().matches(forms[id_], Secret(issued[id_])) for id_ in slow[::8])
    assert not any(forms[id_].matches_at_once(strange) for id_ in issued)
    assert not BcryptForms().matches(forms[slow[0]], strange)


@pytest.mark.parametrize("core", SCHEMES)
def test_each_row_has_its_stored_form(core: str) -> None:
    bench = emulated(core, FakeClock())
    issued = bench.server.create(SPEC)

    ((row, form),) = bench.server.list_stored("acme")

    assert (row.id, row.scheme, form.scheme) == (issued.key.id, SCHEMES[core], SCHEMES[core])
    assert form.matches_at_once(issued.secret) is (SCHEMES[core] is StorageScheme.SHA256)
    assert not form.matches_at_once(Secret("another"))


def body(**changes: object) -> bytes:
    """Return a list of one row, changed."""
    row = {
        "api_key_id": "api_key_1",
        "key": "x" * 44,
        "name": "n",
        "owner_id": "acme",
        "scopes": [],
        "expires_at": "2027-01-01T00:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
        "last_used_at": "0001-01-01T00:00:00Z",
        "is_revoked": False,
    }
    return json.dumps([row | changes]).encode()


@pytest.mark.parametrize(
    "answer",
    [b"", b"[", body()[:-1], body() + b"x", b"{}", body(key=None), body(key=1), body(name=1), body(api_key_id="/")],
)
def test_an_answer_of_another_shape_is_refused(answer: bytes) -> None:
    with pytest.raises(NotBlnks) as told:
        list(read_stored_list([answer]))

    assert "x" * 44 not in str(told.value)


class _Lying:
    """An emulator in whose place somebody else answers lists."""

    def __init__(self, answer: bytes, status: int = 200) -> None:
        self.bench = emulated("0.15.2", FakeClock())
        emulator = self.bench.emulator
        honest = emulator.answer

        def answered(method: str, target: str, headers: dict[str, str], content: bytes) -> object:
            real = honest(method, target, headers, content)
            return replace(real, status=status, body=answer)

        setattr(emulator, "answer", answered)  # noqa: B010

    def listed(self) -> object:
        """List."""
        return list(self.bench.server.list_stored("acme"))


def test_a_row_of_another_owner_is_refused() -> None:
    with pytest.raises(ServerTrouble, match="another owner"):
        _Lying(body(owner_id="globex")).listed()


def test_a_list_that_is_cut_or_refused_is_told_as_any_other() -> None:
    with pytest.raises(ServerTrouble, match="cut short"):
        _Lying(body()[:-1]).listed()
    with pytest.raises(Refused):
        _Lying(b'{"error": "Invalid API key"}', status=401).listed()


# --- the journal ---------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[StateFile]:
    """Return an empty journal."""
    state = StateFile(tmp_path / "state", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    yield state
    state.close()


def known(number: int, fingerprint: str | None, server: str = "https://ledger.example.com") -> KnownKey:
    """Return a key of the index."""
    row = a_key(number, created_at=EXPIRY - timedelta(days=number))
    return known_as(row, fingerprint=fingerprint, server=server)


def test_keys_of_every_server_are_found_by_their_fingerprint(journal: StateFile) -> None:
    here, twin, there = known(1, "aa"), known(2, "aa"), known(3, "bb", "https://staging.example.com")
    journal.remember([there, twin, here, known(4, None)])

    assert journal.known_by_fingerprint() == {"aa": [here, twin], "bb": [there]}


def test_where_nothing_was_ever_remembered_nothing_is_found_and_nothing_made(
    journal: StateFile, tmp_path: Path
) -> None:
    assert journal.known_by_fingerprint() == {}
    assert not (tmp_path / "state").exists()
