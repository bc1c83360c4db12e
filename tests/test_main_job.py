"""The main job on every recorded generation, and, marked `live`, on a real server."""

import os
import uuid
from collections.abc import Callable

import pytest

from blnkctl.sandbox import Sandbox
from blnkctl.wiring import make_bare_store
from tests.conftest import Blnkctl
from tests.keyring_daemon import KeyringDaemon
from tests.main_job import the_main_job

SCHEMES = {
    "0.11.6": "plaintext",
    "0.12.0": "sha256",
    "0.13.2": "bcrypt",
    "0.14.5": "bcrypt",
    "0.15.2": "bcrypt",
}


@pytest.mark.parametrize("core", SCHEMES)
def test_a_key_goes_from_the_server_into_the_store_and_is_never_seen(
    core: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox]
) -> None:
    the_main_job(blnkctl.use(start_sandbox(core, fast=False)), "acme", SCHEMES[core])


@pytest.mark.parametrize("core", ["0.11.6", "0.15.2"])
def test_a_key_goes_from_the_server_into_the_keyring_and_is_never_seen(
    core: str, blnkctl: Blnkctl, start_sandbox: Callable[..., Sandbox], keyring: KeyringDaemon
) -> None:
    the_main_job(blnkctl.use_keyring(start_sandbox(core, fast=False), keyring), "acme", SCHEMES[core])


@pytest.mark.live
def test_the_main_job_on_a_real_server(blnkctl: Blnkctl) -> None:
    admin_key = os.environ["BLNKCTL_TEST_ADMIN_KEY"]
    make_bare_store(blnkctl.home / "store")
    blnkctl.environment |= {
        "BLNKCTL_URL": os.environ["BLNKCTL_TEST_URL"],
        "BLNKCTL_ADMIN_KEY": admin_key,
        "BLNKCTL_STORE": "age",
    }
    blnkctl.secrets.values.append(lambda: [admin_key])

    the_main_job(blnkctl, f"live-{uuid.uuid4().hex[:12]}", os.environ.get("BLNKCTL_TEST_SCHEME", "bcrypt"))


def test_a_revoked_key_does_not_verify(operator: Blnkctl) -> None:
    operator.run("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read")
    operator.run("keys", "revoke", "acme/billing", "--yes")
    (key_id,) = operator.run("keys", "list", "-o", "ids").out.split()

    verified = operator.run("keys", "verify", key_id)

    assert verified.code == 10
    assert "expired or revoked" in verified.err
