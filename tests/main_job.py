"""The main job as one story, told by the real entry point, for sandboxes and real servers alike."""

import json
import os
import sys
from pathlib import Path
from time import time
from typing import Any

from tests.conftest import Blnkctl, Outcome

SCOPES = "ledgers:read,balances:write"


def data_of(outcome: Outcome) -> Any:
    """Return the data of a command that must have succeeded."""
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert (document["status"], document["errors"]) == ("ok", [])
    return document["data"]


def create_a_key(machine: Blnkctl, owner: str, scheme: str) -> Any:
    """Create a key; the document tells all about it and not its secret."""
    key = data_of(machine.run("keys", "create", "billing", "--owner", owner, "--scope", SCOPES, "-o", "json"))
    varying = ("id", "expires_at", "created_at", "fingerprint")
    assert {name: value for name, value in key.items() if name not in varying} == {
        "name": "billing",
        "owner": owner,
        "scopes": ["ledgers:read", "balances:write"],
        "status": "active",
        "last_used_at": None,
        "revoked_at": None,
        "superseded_by": None,
        "storage_scheme": scheme,
        "stored": True,
        "store": machine.environment["BLNKCTL_STORE"],
        "sinks": [],
        "context": None,
        "changed": True,
    }
    return key


def use_the_key(machine: Blnkctl, key: Any) -> str:
    """Verify it, hand it to a program, reveal it; return the secret."""
    (verified,) = data_of(machine.run("keys", "verify", key["id"], "-o", "json"))
    assert (verified["authenticates"], verified["key"]["id"]) == (True, key["id"])
    secret = machine.run("keys", "reveal", f"{key['owner']}/billing", reveals=True).out
    assert len(secret) == 44
    machine.secrets.values.append(lambda: [secret])
    show = "import os; print(os.environ['BLNK_API_KEY'], end='')"
    command = ("keys", "exec", key["id"], "--", sys.executable, "-c", show)
    assert machine.spawn(*command, reveals=True).out == secret
    return secret


def list_and_revoke(machine: Blnkctl, key: Any) -> None:
    """List it, take the name's key if it is there already, revoke it, and see that it is refused."""
    owner = ("--owner", key["owner"])
    listed = data_of(machine.run("keys", "list", *owner, "-o", "json"))
    assert [(row["id"], row["status"], row["expires_at"]) for row in listed] == [
        (key["id"], "active", key["expires_at"])
    ]
    again = ("keys", "create", "billing", *owner, "--scope", SCOPES)
    kept = data_of(machine.run(*again, "--if-absent", "-o", "json"))
    assert (kept["id"], kept["changed"]) == (key["id"], False)
    assert machine.run(*again).code == 2
    (revoked,) = data_of(machine.run("keys", "revoke", key["id"], "--yes", "-o", "json"))
    assert (revoked["result"], revoked["key"]["status"], revoked["proof"]) == ("revoked", "revoked", None)
    (repeated,) = data_of(machine.run("keys", "revoke", key["id"], "-o", "json"))
    assert (repeated["result"], repeated["key"]["revoked_at"]) == (
        "already_revoked",
        revoked["key"]["revoked_at"],
    )


def refuse_to_list_before_0_12(machine: Blnkctl, key: Any) -> None:
    """Say that nothing can be listed or revoked, and what still works."""
    for command in (("keys", "list", "--owner", key["owner"]), ("keys", "revoke", key["id"], "--yes")):
        refused = machine.run(*command)
        assert refused.code == 12
        assert "neither list nor revoke" in refused.err
        assert "keys create" in refused.err


def leave_nothing_unfinished(machine: Blnkctl) -> None:
    """See that nothing is left to recover, once a second has passed since the last key was stored."""
    for path in _escrows(machine):
        os.utime(path, (time() - 2, time() - 2))
    assert data_of(machine.run("recover", "-o", "json")) == []
    assert _escrows(machine) == []


def _escrows(machine: Blnkctl) -> list[Path]:
    directories = {"age": machine.home / "store", "os": machine.home / "state" / "escrow"}
    return list((directories[machine.environment["BLNKCTL_STORE"]] / "pending").iterdir())


def the_main_job(machine: Blnkctl, owner: str, scheme: str) -> None:
    """Tell the whole story."""
    machine.run("doctor")
    key = create_a_key(machine, owner, scheme)
    use_the_key(machine, key)
    if scheme == "plaintext":
        refuse_to_list_before_0_12(machine, key)
    else:
        list_and_revoke(machine, key)
    leave_nothing_unfinished(machine)
