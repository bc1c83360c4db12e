"""Proving that no server process accepts a revoked key any more, and verifying that a stored one is accepted."""

from datetime import timedelta

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.errors import BlnkctlError, ServerTrouble, Unreachable
from blnkctl.domain.generations import Generation
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.usecases.revoke import Proof, Revocation, RevokeResult
from blnkctl.usecases.secrets import Verification
from tests.usecases.fakes import Bench, a_key, a_view, emulated, known_as

ACCEPTED = ProbeAnswer(ProbeVerdict.AUTHENTICATED)
REFUSED = ProbeAnswer(ProbeVerdict.EXPIRED_OR_REVOKED)
UNKNOWN = ProbeAnswer(ProbeVerdict.UNKNOWN_KEY)
UNDECIDED = ProbeAnswer(ProbeVerdict.UNDECIDED, "the server answered 502")
SECRET = Secret("the-secret-of-the-revoked-key")
REVOKED = Revocation(a_view(a_key(is_revoked=True)), RevokeResult.REVOKED)


def prove(bench: Bench, limit: timedelta = timedelta(minutes=6)) -> Revocation:
    """Wait for the proof with whatever the fake server answers; it refuses once its list is empty."""
    bench.server.probes += [REFUSED] * 200
    return bench.prover().run(REVOKED, SECRET, limit)


def test_twenty_refusals_in_a_row_over_seventy_seconds_are_the_proof() -> None:
    bench = Bench()
    begun = bench.clock.monotonic()
    proven = prove(bench)
    assert proven.proof == Proof(probes=20, accepted=0, refused_since=70.0)
    assert proven.error is None
    assert bench.clock.monotonic() - begun >= 69.99
    assert bench.server.connections == [True] * 20


def test_fast_refusals_alone_are_no_proof() -> None:
    bench = Bench()
    limit = timedelta(seconds=69)
    unproven = prove(bench, limit)
    assert unproven.error is not None
    assert (unproven.error.code, exit_code(unproven.error)) == ("proof_not_reached", 8)


@pytest.mark.parametrize("interruption", [ACCEPTED, UNDECIDED, UNKNOWN, Unreachable("down"), ServerTrouble("500")])
def test_anything_but_the_one_refusal_begins_the_row_anew(interruption: ProbeAnswer | BlnkctlError) -> None:
    bench = Bench()
    bench.server.probes = [*[REFUSED] * 19, interruption]
    proven = prove(bench)
    accepted = 1 if interruption is ACCEPTED else 0
    assert proven.proof == Proof(probes=40, accepted=accepted, refused_since=70.0)
    assert proven.error is None


def test_a_key_that_goes_on_being_accepted_reaches_the_limit_and_says_how_to_go_on() -> None:
    bench = Bench()
    bench.server.probes = [ACCEPTED] * 500
    begun = bench.clock.monotonic()
    unproven = prove(bench)
    assert unproven.error is not None
    assert unproven.proof is not None
    assert unproven.proof.accepted == unproven.proof.probes
    assert unproven.proof.refused_since == 0.0
    assert (unproven.error.code, exit_code(unproven.error)) == ("proof_not_reached", 8)
    assert unproven.error.hint == f"Ask again: blnkctl keys revoke {a_key().id} --wait"
    assert unproven.result is RevokeResult.REVOKED
    assert 360 <= bench.clock.monotonic() - begun < 370


@pytest.mark.parametrize("core", ["0.12.0", "0.13.2", "0.15.2"])
def test_behind_two_processes_the_proof_outwaits_the_stale_minute(core: str) -> None:
    bench = Bench()
    server = emulated(core, bench.clock, replicas=2)
    bench.server = server.server  # type: ignore[assignment]
    key = bench.create().view.key
    secret = bench.store.held[key.id]
    for _ in range(2):  # each process takes the key into its memory
        assert server.server.probe(secret).verdict is ProbeVerdict.AUTHENTICATED
    (revoked,) = bench.revoker().run([a_view(key)], lambda *_: None)
    begun = bench.clock.monotonic()
    connections = server.transport.connections

    proven = bench.prover().run(revoked, secret)

    assert proven.error is None
    assert proven.proof is not None
    assert proven.proof.accepted > 0
    assert proven.proof.refused_since >= 70.0
    assert server.transport.connections - connections == proven.proof.probes
    assert bench.clock.monotonic() - begun >= 66 + 70 - 8
    assert {server.server.probe(secret).verdict for _ in range(4)} == {ProbeVerdict.EXPIRED_OR_REVOKED}


def test_behind_two_processes_a_short_limit_is_not_enough() -> None:
    bench = Bench()
    server = emulated("0.15.2", bench.clock, replicas=2)
    bench.server = server.server  # type: ignore[assignment]
    key = bench.create().view.key
    secret = bench.store.held[key.id]
    for _ in range(2):
        server.server.probe(secret)
    (revoked,) = bench.revoker().run([a_view(key)], lambda *_: None)
    unproven = bench.prover().run(revoked, secret, timedelta(minutes=2))
    assert unproven.error is not None
    assert unproven.error.code == "proof_not_reached"


# --- verifying ------------------------------------------------------------------------------------------


def verify(bench: Bench, *answers: ProbeAnswer | BlnkctlError) -> Verification:
    bench.server.probes = list(answers)
    return bench.verifier(bench.server).run(known_as(a_key()), SECRET)


def test_one_acceptance_verifies_a_key_at_once() -> None:
    bench = Bench()
    begun = bench.clock.monotonic()
    assert verify(bench, ACCEPTED) == Verification(known_as(a_key()), True, "the server accepts it")
    assert bench.clock.monotonic() == begun
    assert bench.effects.log == ["probe"]


@pytest.mark.parametrize(("refusal", "words"), [(REFUSED, "expired or revoked"), (UNKNOWN, "does not know it")])
def test_three_refusals_over_five_seconds_with_the_admin_key_listing_in_between_are_a_rejection(
    refusal: ProbeAnswer, words: str
) -> None:
    bench = Bench()
    begun = bench.clock.monotonic()
    verification = verify(bench, refusal, refusal, refusal, ACCEPTED)
    assert verification.authenticates is False
    assert words in verification.reason
    assert bench.clock.monotonic() - begun == 5.0
    assert bench.effects.log == ["probe", *["ask the server", "list", "probe"] * 2]
    assert bench.server.probes == [ACCEPTED]


@pytest.mark.parametrize("answers", [(UNKNOWN, ACCEPTED), (UNKNOWN, REFUSED, ACCEPTED)])
def test_a_refusal_that_does_not_last_is_none(answers: tuple[ProbeAnswer, ...]) -> None:
    assert verify(Bench(), *answers).authenticates is True


@pytest.mark.parametrize("answers", [(UNDECIDED,), (UNKNOWN, UNDECIDED), (UNKNOWN, UNKNOWN, UNDECIDED)])
def test_an_answer_that_is_not_blnks_decides_nothing(answers: tuple[ProbeAnswer, ...]) -> None:
    verification = verify(Bench(), *answers)
    assert (verification.authenticates, verification.reason) == (None, "the server answered 502")


def test_a_refusal_while_the_server_fails_the_admin_key_too_decides_nothing() -> None:
    bench = Bench()
    bench.server.unlistable["acme"] = ServerTrouble("database away")
    verification = verify(bench, UNKNOWN, UNKNOWN, UNKNOWN)
    assert verification.authenticates is None
    assert "failed to list keys" in verification.reason


def test_before_0_12_the_admin_key_itself_stands_in_for_the_list() -> None:
    bench = Bench(Generation.BEFORE_0_12)
    assert verify(bench, UNKNOWN, UNKNOWN, UNKNOWN).authenticates is False
    assert "list" not in bench.effects.log


def test_a_server_that_is_not_reached_is_not_a_verdict() -> None:
    with pytest.raises(Unreachable):
        verify(Bench(), Unreachable("down"))


@pytest.mark.parametrize("core", ["0.11.6", "0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_a_key_is_accepted_by_the_emulated_server_that_made_it_and_by_no_other(core: str) -> None:
    bench = Bench()
    maker, stranger = emulated(core, bench.clock), emulated(core, bench.clock)
    bench.server = maker.server  # type: ignore[assignment]
    result = bench.create()
    known, secret = result.view.known, bench.store.held[result.view.key.id]
    assert known is not None
    assert bench.verifier(maker.server).run(known, secret).authenticates is True
    assert bench.verifier(stranger.server).run(known, secret).authenticates is False
