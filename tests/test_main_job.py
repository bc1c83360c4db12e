"""The main job on every recorded generation: a key goes from the server straight into the store."""

import json
from collections.abc import Callable

import pytest

from blnkctl.sandbox import Sandbox
from tests.conftest import LISTING_VERSIONS, RECORDED_VERSIONS, Blnkctl

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read,balances:write")


@pytest.mark.parametrize("core", RECORDED_VERSIONS)
def test_a_created_key_is_stored_proven_and_never_shown(
    core: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    server = start_sandbox(core, fast=False)
    machine = blnkctl.use(server)

    created = machine.run(*CREATE, "-o", "json")

    assert created.code == 0, created.err
    key = json.loads(created.out)["data"]
    assert key["stored"] is True
    assert key["store"] == "age"
    assert key["changed"] is True
    verified = machine.run("keys", "verify", "acme/billing", "-o", "json")
    assert verified.code == 0, verified.err
    assert json.loads(verified.out)["data"][0]["authenticates"] is True
    revealed = machine.run("keys", "reveal", key["id"], reveals=True)
    assert revealed.out == server.emulator.issued[-1]


@pytest.mark.parametrize("core", LISTING_VERSIONS)
def test_a_revoked_key_is_refused_and_stays_listed(
    core: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    machine = blnkctl.use(start_sandbox(core))
    machine.run(*CREATE)

    revoked = machine.run("keys", "revoke", "acme/billing", "--yes", "-o", "json")
    again = machine.run("keys", "revoke", "acme/billing", "-o", "json")

    assert (revoked.code, json.loads(revoked.out)["data"][0]["result"]) == (0, "revoked")
    assert (again.code, json.loads(again.out)["data"][0]["result"]) == (0, "already_revoked")
    listed = machine.run("keys", "list", "-o", "json")
    assert [key["status"] for key in json.loads(listed.out)["data"]] == ["revoked"]
