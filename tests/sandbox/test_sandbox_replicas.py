"""Several processes behind one address: what one of them revokes, the others go on accepting for a while."""

from __future__ import annotations

import pytest

from blnkctl.sandbox import RateLimit, SandboxOptions
from blnkctl.sandbox.server import Emulator
from tests.sandbox.sandbox_client import ACCEPTED, ENDED, Client


def revoked_while_cached_by_two(core: str) -> tuple[Client, str]:
    """Let both processes cache a key, then revoke it on the first."""
    client = Client(core, replicas=2)
    client.ask("GET", "/health")  # so that the first process is next but one
    created = client.create("*:*")
    key = str(created["key"])
    assert [client.probe(key), client.probe(key)] == [ACCEPTED, ACCEPTED]
    assert client.ask("DELETE", f"/api-keys/{created['api_key_id']}?owner=alice").status == 204
    return client, key


@pytest.mark.parametrize("core", ["0.12.0", "0.13.2", "0.15.2"])
def test_a_revoked_key_is_accepted_by_the_other_process_for_sixty_six_seconds(core: str) -> None:
    client, key = revoked_while_cached_by_two(core)
    assert [client.probe(key), client.probe(key)] == [ACCEPTED, ENDED]
    client.time.pass_by(65.9)
    assert [client.probe(key), client.probe(key)] == [ACCEPTED, ENDED]
    client.time.pass_by(0.2)
    assert [client.probe(key), client.probe(key)] == [ENDED, ENDED]


def test_one_process_refuses_a_revoked_key_at_once() -> None:
    client = Client()
    created = client.create("*:*")
    assert client.probe(created["key"]) == ACCEPTED
    client.ask("DELETE", f"/api-keys/{created['api_key_id']}?owner=alice")
    assert client.probe(created["key"]) == ENDED


def test_a_process_that_never_saw_the_key_refuses_it_at_once() -> None:
    client = Client(replicas=2)
    client.ask("GET", "/health")
    created = client.create("*:*")
    assert client.probe(created["key"]) == ACCEPTED
    client.ask("GET", "/health")
    client.ask("DELETE", f"/api-keys/{created['api_key_id']}?owner=alice")
    assert [client.probe(created["key"]) for _ in range(4)] == [ENDED] * 4


def test_each_process_counts_requests_for_itself() -> None:
    client = Client(replicas=2, rate_limit=RateLimit(1, 1))
    assert [client.ask("GET", "/health").status for _ in range(4)] == [200, 200, 429, 429]


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Emulator(SandboxOptions(replicas=0))
