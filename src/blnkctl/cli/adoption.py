"""Who adopts secrets of keys that were made elsewhere, for the target in use."""

from blnkctl.cli.run import Run
from blnkctl.cli.sinks import delivery
from blnkctl.usecases.adopt import AdoptSecret
from blnkctl.usecases.made_elsewhere import FindMadeElsewhere


def adopter(run: Run) -> AdoptSecret:
    """Return who stores the secret of a key that was made elsewhere."""
    wiring = run.wiring
    return AdoptSecret(
        server=wiring.server,
        store=wiring.store,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        signals=wiring.signals,
        reporter=run.terminal,
        slow_forms=wiring.bcrypt_forms,
        actor=wiring.actor,
        reason=run.flags.reason,
    )


def made_elsewhere(run: Run) -> FindMadeElsewhere:
    """Return who looks for the secret of a key that another machine made."""
    wiring = run.wiring
    return FindMadeElsewhere(wiring.server, wiring.store, delivery(run), wiring.bcrypt_forms, wiring.clock)
