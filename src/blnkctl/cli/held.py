"""Who reads stored secrets, for the target in use."""

from blnkctl.cli.run import Run
from blnkctl.usecases.secrets import HeldSecrets, ReadSecret


def held_secrets(run: Run) -> HeldSecrets:
    """Return who reads the secrets of keys that are known."""
    wiring = run.wiring
    return HeldSecrets(run.target.url, wiring.stores, wiring.journal, wiring.clock)


def secret_reader(run: Run) -> ReadSecret:
    """Return who finds a key by a KEY word, and reads its secret."""
    return ReadSecret(run.target.url, run.wiring.journal, run.wiring.clock, held_secrets(run))
