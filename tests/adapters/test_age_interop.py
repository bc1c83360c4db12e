"""Entries and escrows open with the stock `age`, and with SSH keys: a rescue needs nothing of this project."""

import subprocess
from pathlib import Path

import pytest

from blnkctl.domain.errors import StoreUnavailable, UsageError
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.sealing import crypto
from tests.adapters.age_bench import KEY_ID, SERVER, entry, escrowed, make_store, open_machine
from tests.programs import program


def decrypt(file: Path, identity: Path) -> bytes:
    """Decrypt a file as an operator in need would: with the stock `age`."""
    done = subprocess.run([program("age"), "-d", "-i", str(identity), str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_ssh_key(directory: Path, kind: str, passphrase: str = "") -> tuple[Path, str]:
    """Make an SSH key pair; return the private key's file and the public key."""
    path = directory / f"id_{kind}"
    subprocess.run(
        [program("ssh-keygen"), "-q", "-t", kind, "-N", passphrase, "-C", "somebody@somewhere", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path, path.with_suffix(".pub").read_text().strip()


def test_an_entry_opens_with_the_stock_age_and_its_first_line_is_the_secret(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("s3cret+/="), {"owner": "acme"})
    (identity,) = machine.layout.identities.iterdir()

    opened = decrypt(machine.layout.entry(entry()), identity)

    assert opened == (
        b"s3cret+/=\n"
        b'{"server": "https://ledger.example.com", "username": "' + KEY_ID.encode() + b'", "owner": "acme"}\n'
    )


def test_head_shows_the_secret_alone(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("s3cret+/="), {})
    (identity,) = machine.layout.identities.iterdir()

    rescue = f"{program('age')} -d -i '{identity}' '{machine.layout.entry(entry())}' | head -n 1"
    done = subprocess.run(["sh", "-c", rescue], capture_output=True, check=True)

    assert done.stdout == b"s3cret+/=\n"


def test_an_escrow_opens_with_the_stock_age_as_well(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.reserve_escrow("one")
    machine.store.write_escrow("one", escrowed("s3cret"), SERVER)
    (identity,) = machine.layout.identities.iterdir()

    opened = decrypt(machine.layout.escrows.path("one"), identity).decode()

    assert opened.splitlines()[0] == "s3cret"
    assert KEY_ID in opened.splitlines()[1]


def test_files_are_armored_text(tmp_path: Path) -> None:
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("x"), {})

    lines = machine.layout.entry(entry()).read_text("ascii").splitlines()

    assert (lines[0], lines[-1]) == ("-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----")


def test_an_entry_that_the_stock_age_sealed_anew_is_read(tmp_path: Path) -> None:
    """An operator may have mended a store by hand, in either form of the file."""
    machine = make_store(tmp_path / "store")
    machine.store.put(entry(), Secret("before"), {})
    (identity,) = machine.layout.identities.iterdir()
    content = decrypt(machine.layout.entry(entry()), identity).replace(b"before", b"after")
    seal = [program("age"), "-r", identity.stem]
    sealed = subprocess.run(seal, input=content, capture_output=True, check=True).stdout

    machine.layout.entry(entry()).write_bytes(sealed)

    assert open_machine(tmp_path / "store").store.get(entry()) == Secret("after")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_the_holder_of_an_ssh_key_reads_the_store(tmp_path: Path, kind: str) -> None:
    private, public = make_ssh_key(tmp_path, kind)
    machine = make_store(tmp_path / "store", public)
    machine.store.put(entry(), Secret("s3cret"), {})
    machine.store.reserve_escrow("one")
    machine.store.write_escrow("one", escrowed(), SERVER)
    for identity in machine.layout.identities.iterdir():
        identity.rename(tmp_path / identity.name)

    there = open_machine(tmp_path / "store", given=private)

    assert there.store.get(entry()) == Secret("s3cret")
    assert there.store.read_escrow("one").key == escrowed()
    assert decrypt(machine.layout.entry(entry()), private).startswith(b"s3cret\n")
    assert there.keys.status().recipients[1] == public


def test_a_write_only_store_of_an_ssh_key_is_written_here_and_read_there(tmp_path: Path) -> None:
    private, public = make_ssh_key(tmp_path, "ed25519")
    here = make_store(tmp_path / "store", public, own=False)

    here.store.check_writable(entry("canary-1"))
    here.store.put(entry(), Secret("s3cret"), {})

    assert here.keys.status().state == "write-only"
    with pytest.raises(StoreUnavailable) as refused:
        here.store.get(entry())
    assert refused.value.code == "identity_not_here"
    assert open_machine(tmp_path / "store", given=private).store.get(entry()) == Secret("s3cret")


def test_an_ssh_key_under_a_passphrase_is_refused_with_what_would_help(tmp_path: Path) -> None:
    private, public = make_ssh_key(tmp_path, "ed25519", passphrase="abcdef")
    here = make_store(tmp_path / "store", public, own=False)
    here.store.put(entry(), Secret("s3cret"), {})

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store", given=private).store.get(entry())

    assert refused.value.message == (
        f"The identity {private} could not be opened:"
        " it holds no age identity and no unencrypted OpenSSH private key."
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("age1nonsense", "That is no age or SSH public key; nothing was kept."),
        ("", "That is no age or SSH public key; nothing was kept."),
        ("ssh-ed25519 nonsense", "That is no age or SSH public key; nothing was kept."),
        ("ecdsa-sha2-nistp256 AAAA", "That is no age or SSH public key; nothing was kept."),
        (
            crypto.generate().identity.reveal(),
            "That is an age identity, which is a secret, not a public key; nothing was kept.",
        ),
    ],
    ids=["no age key", "nothing", "no SSH key", "another kind of SSH key", "a secret"],
)
def test_what_is_no_public_key_makes_no_store(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_machine(tmp_path / "store").keys.initialise([text], None, own_identity=True)

    assert (refused.value.message, refused.value.code) == (problem, "bad_recipient")
    assert not (tmp_path / "store").exists()


def test_an_age_identity_file_may_hold_comments_and_several_identities(tmp_path: Path) -> None:
    pairs = [crypto.generate(), crypto.generate()]
    file = tmp_path / "identities.txt"
    file.write_text("".join(f"# created: today\n{pair.identity.reveal()}\n\n" for pair in pairs))
    file.chmod(0o600)
    here = make_store(tmp_path / "store", pairs[1].recipient, own=False)
    here.store.put(entry(), Secret("s3cret"), {})

    assert open_machine(tmp_path / "store", given=file).store.get(entry()) == Secret("s3cret")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"AGE-SECRET-KEY-1NONSENSE\n", b"\xff\xfe", b"hello\n"])
def test_an_identity_file_without_an_identity_says_so(tmp_path: Path, content: bytes) -> None:
    here = make_store(tmp_path / "store", crypto.generate().recipient, own=False)
    here.store.put(entry(), Secret("s3cret"), {})
    file = tmp_path / "identities.txt"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store", given=file).store.get(entry())

    assert f"The identity {file} could not be opened: it holds no" in refused.value.message


def test_an_identity_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    here = make_store(tmp_path / "store", crypto.generate().recipient, own=False)
    here.store.put(entry(), Secret("s3cret"), {})

    with pytest.raises(StoreUnavailable) as refused:
        open_machine(tmp_path / "store", given=tmp_path / "mistyped").store.get(entry())

    assert refused.value.message == f"There is no identity file {tmp_path / 'mistyped'}; nothing was sent."
    assert refused.value.hint == "Correct BLNKCTL_AGE_IDENTITY_FILE, or put the file there."
    assert open_machine(tmp_path / "store", given=tmp_path / "mistyped").keys.status().identity == "not here"


def test_the_identity_of_another_store_opens_nothing_and_is_told_apart_from_damage(tmp_path: Path) -> None:
    other = make_store(tmp_path / "other")
    (identity,) = other.layout.identities.iterdir()
    here = make_store(tmp_path / "store", crypto.generate().recipient, own=False)
    here.store.put(entry(), Secret("s3cret"), {})
    here.store.reserve_escrow("one")
    here.store.write_escrow("one", escrowed(), SERVER)

    stranger = open_machine(tmp_path / "store", given=identity)

    with pytest.raises(StoreUnavailable, match="could not be opened: no identity here opens it"):
        stranger.store.get(entry())
    assert stranger.store.read_escrow("one").state is EscrowState.LOCKED
