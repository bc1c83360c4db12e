"""Machines in the states that the tests of the command line begin from."""

import json
from pathlib import Path
from typing import Any

from blnkctl.sandbox import Sandbox
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read,balances:write")
FROM_ENVIRONMENT = ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY", "BLNKCTL_STORE")


def without_target(machine: Blnkctl) -> Blnkctl:
    """Take server, admin key and store out of a machine's environment; the age store itself stays."""
    for name in FROM_ENVIRONMENT:
        machine.environment.pop(name, None)
    return machine


def add_context(machine: Blnkctl, name: str, server: Sandbox, *options: str) -> Outcome:
    """Add a context whose admin key is in the store."""
    words = ("context", "add", name, "--url", server.url, "--store", "age", "--admin-key-stdin", *options)
    outcome = machine.run(*words, stdin=f"{ADMIN_KEY}\n")
    assert outcome.code == 0, outcome.err
    return outcome


def key_file(machine: Blnkctl, content: str = ADMIN_KEY, name: str = "admin-key") -> Path:
    """Write a file that may hold a secret, and return its path."""
    path = machine.home / name
    path.write_text(content)
    machine.secrets.allowed_files.add(path)
    return path


def data(outcome: Outcome) -> Any:
    """Return the data of a JSON document."""
    return json.loads(outcome.out)["data"]


def error(outcome: Outcome) -> dict[str, str | None]:
    """Return the first error of a JSON document."""
    first: dict[str, str | None] = json.loads(outcome.out)["errors"][0]
    return first


def created(machine: Blnkctl, *arguments: str) -> dict[str, Any]:
    """Create a key and return its record."""
    outcome = machine.run(*(arguments or CREATE), "-o", "json")
    assert outcome.code == 0, outcome.err
    record: dict[str, Any] = data(outcome)
    return record
