"""Without a store (`none`) a sink takes its place: what it holds is never lost to a key that fails."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blnkctl.cli.exits import exit_code
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    NotFound,
    ServerTrouble,
    SinkFailed,
    SinkRefused,
    StoreUnavailable,
    Unreachable,
    Unsupported,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeySpec, StorageScheme
from blnkctl.domain.operations import Operation, OperationKind, Phase
from blnkctl.domain.probes import ProbeAnswer, ProbeVerdict
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import parse_key_word
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.stored_forms import StoredForm
from blnkctl.usecases.mint import Minted, MintKey, MintOrder
from blnkctl.usecases.recover import RecoverDecision, Recovered
from blnkctl.usecases.secrets import HeldSecrets, ReadSecret
from blnkctl.usecases.sink_store import SinkStore
from tests.usecases.fakes import EXPIRY, SCOPES, URL, Bench, FakeSignals, a_request, answer_lost

ONE, TWO = parse_sink("env-file:/srv/one"), parse_sink("env-file:/srv/two#KEY")
RUN = parse_sink("command:keep")
AT_ONE, AT_TWO = "/srv/one#BLNK_API_KEY", "/srv/two#KEY"
OLD = Secret("what-stood-there-before")
FULL = SinkFailed("/srv/one: No space left on device.")


class BenchWithoutStore(Bench):
    """A bench whose store is `none`; one sink holds a value already."""

    def __init__(self, generation: Generation = Generation.FROM_0_15) -> None:
        super().__init__(generation)
        self.store: Any = SinkStore(self.delivery, self.journal, lambda: self.server, lambda: self.slow_forms)
        self.sinks.held[AT_ONE] = OLD

    def at(self, target: str) -> str | None:
        """Return what a sink holds."""
        held = self.sinks.held.get(target)
        return None if held is None else held.reveal()

    def made(self) -> ApiKey:
        """Return the one row that was made."""
        (row,) = self.server.rows
        return row

    def secret(self) -> str:
        """Return the secret of the one row that was made."""
        return self.server.secrets[self.made().id].reveal()

    def make_successor(self) -> Minted:
        """Make a successor, as a rotation does."""
        order = MintOrder(
            OperationKind.ROTATE, SPEC, self.listed(), "tester@bench", succeeds="api_key_old", sinks=(str(ONE),)
        )
        mint = MintKey(
            self.server,
            self.store,
            self.journal,
            self.locks,
            self.clock,
            FakeSignals(self.effects),
            self.verifier(self.server),
        )
        return mint.run(order)


SPEC = KeySpec("billing", "acme", SCOPES, EXPIRY + timedelta(microseconds=4711))


def create(bench: Bench, *sinks: object, **changes: object) -> Any:
    return bench.create(a_request(sinks=sinks or (ONE,), **changes))


def died(bench: BenchWithoutStore, *, sinks: tuple[str, ...] = (str(ONE),), **changes: object) -> Operation:
    """Let a create have died somewhere after its intent was recorded, and the server have made the key."""
    operation = Operation(
        id="operation-1",
        kind=OperationKind.CREATE,
        server=str(URL),
        owner="acme",
        name="billing",
        phase=Phase.SENT,
        started_at=bench.clock.now(),
        spec=SPEC,
        store="none",
        store_id="none",
        rows_before=0,
        sent_at=bench.clock.now(),
        sinks=sinks,
        context="prod",
    )
    operation = replace(operation, **changes)  # type: ignore[arg-type]
    bench.journal.operations[operation.id] = operation
    bench.server.make(SPEC)
    return operation


def settle(bench: BenchWithoutStore, **flags: bool) -> Recovered:
    bench.clock.sleep(60)
    (settled,) = bench.recover(**flags)
    return settled


def assert_undone(bench: BenchWithoutStore) -> None:
    """What was made is revoked, and the sink holds what it held."""
    assert bench.server.live() == []
    assert bench.at(AT_ONE) == OLD.reveal()
    assert bench.journal.open_operations() == []
    assert bench.journal.index == {}


# --- creating ---------------------------------------------------------------------------------


def test_the_sink_is_tried_before_anything_is_sent_and_read_back_before_the_key_counts_as_stored() -> None:
    bench = BenchWithoutStore()

    result = create(bench)

    log = bench.effects.log
    steps = ["journal: begun", "journal: sent", "POST", f"deliver {AT_ONE}", "journal: receipt", "journal: stored"]
    assert [effect for effect in log if effect in steps] == steps
    assert log.index(f"check {AT_ONE}") < log.index("POST")
    assert bench.at(AT_ONE) == bench.secret()
    (receipt,) = result.view.receipts
    assert (receipt.sink, receipt.verified) == (str(ONE), True)
    assert (result.view.is_stored, result.view.known.store) == (True, "none")
    assert result.error is None


def test_a_sink_is_delivered_to_once_and_a_command_after_the_key_is_stored() -> None:
    bench = BenchWithoutStore()

    result = create(bench, ONE, RUN)

    log = bench.effects.log
    assert (log.count(f"deliver {AT_ONE}"), log.count("deliver keep")) == (1, 1)
    assert log.index("journal: stored") < log.index("deliver keep")
    assert [receipt.verified for receipt in result.view.receipts] == [True, None]


@pytest.mark.parametrize("sinks", [(RUN,), ()])
def test_without_a_sink_that_can_be_read_back_nothing_is_asked(sinks: tuple[object, ...]) -> None:
    bench = BenchWithoutStore()

    with pytest.raises(UsageError) as refused:
        bench.create(a_request(sinks=sinks))

    assert (refused.value.code, exit_code(refused.value), bench.effects.log) == ("store_needs_sink", 2, [])


def test_before_0_12_it_is_refused_as_nothing_could_be_found_again() -> None:
    bench = BenchWithoutStore(Generation.BEFORE_0_12)

    with pytest.raises(Unsupported) as refused:
        create(bench)

    assert (refused.value.code, exit_code(refused.value)) == ("store_needs_list", 12)
    assert bench.server.rows == []


def test_a_sink_that_is_refused_lets_nothing_be_sent() -> None:
    bench = BenchWithoutStore()
    bench.effects.failures[f"check {AT_ONE}"] = SinkRefused("Everybody may read it.")

    with pytest.raises(SinkRefused):
        create(bench)

    assert bench.server.rows == []
    assert_undone(bench)


def test_a_sink_that_is_full_by_then_undoes_the_key_and_keeps_what_it_held() -> None:
    bench = BenchWithoutStore()
    bench.effects.failures[f"deliver {AT_ONE}"] = FULL

    with pytest.raises(StoreUnavailable) as failed:
        create(bench)

    assert (failed.value.code, exit_code(failed.value)) == ("store_failed", 5)
    assert "No space left on device" in failed.value.message
    assert_undone(bench)


def test_a_sink_that_fails_after_it_took_the_secret_is_given_back_what_it_held() -> None:
    bench = BenchWithoutStore()
    bench.effects.betrayals[f"deliver {AT_ONE}"] = FULL

    with pytest.raises(StoreUnavailable):
        create(bench)

    assert_undone(bench)


def test_a_sink_that_lies_undoes_the_key_and_is_asked_for_its_old_value_again() -> None:
    bench = BenchWithoutStore()
    bench.sinks.keeps_instead = Secret("something else")

    with pytest.raises(StoreUnavailable):
        create(bench)

    assert bench.server.live() == []
    assert bench.effects.log.count(f"deliver {AT_ONE}") >= 2
    assert bench.journal.delivered == {}
    assert bench.journal.open_operations() == []


def test_a_sink_that_lies_about_a_key_that_cannot_be_revoked_leaves_it_to_recover() -> None:
    bench = BenchWithoutStore()
    bench.effects.failures |= {f"deliver {AT_ONE}": FULL, "DELETE": ServerTrouble("down", code="server_error")}

    with pytest.raises(Incomplete) as failed:
        create(bench)

    assert (failed.value.code, bench.at(AT_ONE)) == ("created_not_stored", OLD.reveal())
    bench.effects.mended()
    assert settle(bench).decision is RecoverDecision.UNDONE
    assert_undone(bench)


def test_one_sink_of_two_is_enough_and_the_other_can_be_delivered_to_later() -> None:
    bench = BenchWithoutStore()
    bench.effects.failures[f"deliver {AT_ONE}"] = FULL

    result = create(bench, ONE, TWO)

    assert (bench.at(AT_ONE), bench.at(AT_TWO)) == (OLD.reveal(), bench.secret())
    assert (result.error.code, exit_code(result.error)) == ("not_delivered", 8)
    assert result.error.hint == f"Mend that, then: blnkctl keys deliver {bench.made().id} --to '{ONE}'"
    assert [receipt.sink for receipt in result.view.receipts] == [str(TWO)]


def test_a_journal_that_fails_at_the_end_leaves_a_key_in_its_sink_that_recover_adopts() -> None:
    bench = BenchWithoutStore()
    full = StoreUnavailable("The journal is full.", code="journal_failed")
    bench.effects.failures |= {"journal: stored": full, "journal: receipt": full}

    with pytest.raises(Incomplete) as failed:
        create(bench)

    assert failed.value.code == "not_recorded"
    bench.effects.mended()
    assert settle(bench).decision is RecoverDecision.FINISHED
    assert read(bench) == bench.secret()


# --- a key that is there already --------------------------------------------------------------


def test_another_state_directory_knows_a_key_by_its_sink() -> None:
    bench = BenchWithoutStore()
    create(bench)
    bench.journal.index.clear()
    bench.journal.delivered.clear()

    again = create(bench, if_absent=True)

    assert (again.changed, again.error, again.view.key.id) == (False, None, bench.made().id)
    assert [receipt.verified for receipt in again.view.receipts] == [True]
    assert read(bench) == bench.secret()


def test_a_sink_that_holds_another_key_does_not_stand_for_the_one_that_is_there() -> None:
    bench = BenchWithoutStore()
    create(bench)
    bench.journal.index.clear()
    bench.sinks.held[AT_ONE] = OLD

    again = create(bench, if_absent=True)

    assert (again.error.code, bench.journal.index, bench.at(AT_ONE)) == ("not_delivered", {}, OLD.reveal())


# --- reading ----------------------------------------------------------------------------------


def read(bench: BenchWithoutStore) -> str:
    """Return what `exec` and `reveal` read."""
    held = HeldSecrets(URL, {"none": bench.store}, bench.journal, bench.clock)
    _, secret = ReadSecret(URL, bench.journal, bench.clock, held).run(parse_key_word("acme/billing"))
    return secret.reveal()


def test_the_secret_is_read_from_the_sink_without_asking_the_server() -> None:
    bench = BenchWithoutStore()
    create(bench, TWO, ONE)
    bench.effects.log.clear()
    bench.sinks.held[AT_ONE] = OLD

    assert read(bench) == bench.secret()
    assert bench.effects.log == []


def test_a_sink_that_holds_another_key_by_now_does_not_give_that_one() -> None:
    bench = BenchWithoutStore()
    create(bench)
    bench.sinks.held[AT_ONE] = OLD

    with pytest.raises(NotFound) as missing:
        read(bench)

    assert missing.value.code == "secret_not_held"


def test_a_sink_that_is_away_is_not_taken_for_an_empty_one() -> None:
    bench = BenchWithoutStore()
    create(bench)
    bench.sinks.unreadable.add(AT_ONE)

    with pytest.raises(StoreUnavailable) as away:
        read(bench)

    assert (away.value.code, exit_code(away.value)) == ("sink_unreadable", 5)


# --- recovering -------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [Generation.FROM_0_12, Generation.FROM_0_15])
def test_recover_adopts_a_key_whose_sink_holds_its_secret(generation: Generation) -> None:
    bench = BenchWithoutStore(generation)
    died(bench, sinks=(str(ONE), str(RUN)))
    bench.sinks.held[AT_ONE] = bench.server.secrets[bench.made().id]

    settled = settle(bench)

    assert (settled.decision, settled.error) == (RecoverDecision.FINISHED, None)
    assert (
        f"is in its sink. To deliver it: blnkctl keys deliver {bench.made().id} --to command:keep" in settled.message
    )
    assert bench.server.live() == [bench.made().id]
    assert read(bench) == bench.secret()
    assert "deliver keep" not in bench.effects.log


@pytest.mark.parametrize("held", [OLD, None])
def test_recover_revokes_a_key_whose_sink_holds_another_secret_or_none(held: Secret | None) -> None:
    bench = BenchWithoutStore()
    died(bench)
    bench.sinks.held = {} if held is None else {AT_ONE: held}

    settled = settle(bench)

    assert (settled.decision, bench.server.live()) == (RecoverDecision.UNDONE, [])
    assert bench.at(AT_ONE) == (None if held is None else held.reveal())


def test_recover_leaves_a_key_whose_sink_cannot_be_read() -> None:
    bench = BenchWithoutStore()
    died(bench)
    bench.sinks.unreadable.add(AT_ONE)

    settled = settle(bench)

    assert settled.error is not None
    assert (settled.decision, settled.error.code, exit_code(settled.error)) == (RecoverDecision.BLOCKED, "blocked", 5)
    assert str(ONE) in settled.message
    assert bench.server.live() == [bench.made().id]


def test_recover_leaves_a_key_whose_sink_is_not_there_to_be_written_either() -> None:
    bench = BenchWithoutStore()
    died(bench)
    bench.sinks.held.clear()
    bench.effects.failures[f"check {AT_ONE}"] = SinkRefused("There is no such directory.")

    assert settle(bench).decision is RecoverDecision.BLOCKED
    assert bench.server.live() == [bench.made().id]


def test_recover_leaves_a_key_whose_listed_form_cannot_be_compared() -> None:
    bench = BenchWithoutStore()
    died(bench)
    dear = StoredForm(Secret("$2a$31$dear"), StorageScheme.BCRYPT)
    bench.server.list_stored = lambda owner: iter([(bench.made(), dear)])  # type: ignore[method-assign]

    assert settle(bench).decision is RecoverDecision.BLOCKED
    assert bench.server.live() == [bench.made().id]


def test_a_sink_that_is_gone_for_good_can_be_given_up() -> None:
    bench = BenchWithoutStore()
    died(bench)
    bench.sinks.unreadable.add(AT_ONE)

    assert settle(bench, abandon_escrow=True).decision is RecoverDecision.UNDONE
    assert bench.server.live() == []


def test_recover_reads_the_sink_of_the_context_that_the_key_was_made_in() -> None:
    bench = BenchWithoutStore()
    died(bench, sinks=("env-file:/srv/{context}/env",), context="blue")
    bench.sinks.held["/srv/blue/env#BLNK_API_KEY"] = bench.server.secrets[bench.made().id]

    assert settle(bench).decision is RecoverDecision.FINISHED


def test_a_dry_run_of_recover_changes_neither_sink_nor_receipts() -> None:
    bench = BenchWithoutStore()
    died(bench)
    bench.sinks.held[AT_ONE] = bench.server.secrets[bench.made().id]

    assert settle(bench, dry_run=True).decision is RecoverDecision.FINISHED
    assert (bench.journal.delivered, len(bench.journal.open_operations())) == ({}, 1)


class Killed(BaseException):
    """The process is gone: nothing that comes later happens."""


EFFECTS = [
    "journal: begun",
    "journal: sent",
    "signals wait",
    "POST",
    f"deliver {AT_ONE}",
    f"deliver {AT_TWO}",
    "journal: receipt",
    "journal: stored",
    "signals go on",
]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("moment", ["failures", "betrayals"])
def test_a_kill_between_any_two_effects_leaves_a_working_key_in_the_sink_or_what_it_held(
    moment: str, effect: str
) -> None:
    bench = BenchWithoutStore()
    getattr(bench.effects, moment)[effect] = Killed()
    try:
        create(bench, ONE, TWO)
    except Killed:
        bench.effects.mended()
        forget_memory(bench)
        bench.clock.sleep(60)
        assert all(settled.error is None for settled in bench.recover())
    live = [bench.server.secrets[key_id].reveal() for key_id in bench.server.live()]
    assert bench.journal.open_operations() == []
    assert live in ([], [bench.at(AT_ONE)], [bench.at(AT_TWO)])
    assert bench.at(AT_ONE) in (OLD.reveal(), *live)
    if live:
        assert read(bench) == live[0]


def forget_memory(bench: BenchWithoutStore) -> None:
    """Be another process."""
    bench.store = replace(bench.store, former={})


# --- successors -------------------------------------------------------------------------------


def test_a_successor_is_tried_before_it_replaces_what_the_sink_holds() -> None:
    bench = BenchWithoutStore()
    seen: list[str | None] = []
    probe = bench.server.probe

    def watched(secret: Secret, *, fresh_connection: bool = False) -> ProbeAnswer:
        seen.append(bench.at(AT_ONE))
        return probe(secret)

    bench.server.probe = watched  # type: ignore[method-assign]

    bench.make_successor()

    assert (seen, bench.at(AT_ONE)) == ([OLD.reveal()], bench.secret())


REJECTED, UNCERTAIN = ProbeAnswer(ProbeVerdict.UNKNOWN_KEY), ProbeAnswer(ProbeVerdict.UNDECIDED, "it said nothing")


@pytest.mark.parametrize(("answer", "code"), [(REJECTED, "successor_rejected"), (UNCERTAIN, "undecided")])
def test_a_successor_that_is_not_known_to_work_is_revoked_and_the_sink_never_written(
    answer: ProbeAnswer, code: str
) -> None:
    bench = BenchWithoutStore()
    bench.server.probes = [answer] * 3

    with pytest.raises(Incomplete) as failed:
        bench.make_successor()

    assert (failed.value.code, exit_code(failed.value)) == (code, 8)
    assert f"deliver {AT_ONE}" not in bench.effects.log
    assert_undone(bench)


def test_a_successor_that_cannot_be_tried_at_all_is_revoked() -> None:
    bench = BenchWithoutStore()
    bench.server.probes = [Unreachable("gone")]

    with pytest.raises(BlnkctlError):
        bench.make_successor()

    bench.effects.mended()
    assert settle_all(bench)
    assert_undone(bench)


def test_a_rejected_successor_that_cannot_be_revoked_is_left_to_recover() -> None:
    bench = BenchWithoutStore()
    bench.server.probes = [REJECTED] * 3
    bench.effects.failures["DELETE"] = ServerTrouble("down", code="server_error")

    with pytest.raises(Incomplete) as failed:
        bench.make_successor()

    assert failed.value.code == "successor_not_revoked"
    bench.effects.mended()
    assert settle(bench).decision is RecoverDecision.UNDONE
    assert_undone(bench)


def settle_all(bench: BenchWithoutStore) -> bool:
    bench.clock.sleep(60)
    return all(settled.error is None for settled in bench.recover())


def test_a_successor_that_is_refused_later_in_the_same_process_gives_the_place_back() -> None:
    bench = BenchWithoutStore()
    minted = bench.make_successor()

    bench.store.delete(EntryName(URL, minted.known.id))

    assert bench.at(AT_ONE) == OLD.reveal()


def test_what_somebody_else_put_there_since_is_left_alone() -> None:
    bench = BenchWithoutStore()
    minted = bench.make_successor()
    bench.sinks.held[AT_ONE] = Secret("of-somebody-else")

    bench.store.delete(EntryName(URL, minted.known.id))

    assert bench.at(AT_ONE) == "of-somebody-else"


# --- what it is not ---------------------------------------------------------------------------


def test_it_keeps_no_escrow() -> None:
    bench = BenchWithoutStore()
    bench.store.reserve_escrow("operation-1")

    assert bench.store.read_escrow("operation-1").state is EscrowState.NONE
    assert bench.store.pending_escrows() == []


def test_a_secret_of_nobodys_operation_has_no_place_in_it() -> None:
    bench = BenchWithoutStore()
    row = bench.server.make(SPEC).key

    with pytest.raises(UsageError) as refused:
        bench.store.check_writable(EntryName(URL, "canary-1"))

    assert refused.value.code == "store_keeps_nothing"
    assert bench.store.holds(EntryName(URL, row.id)) is False


def test_a_lost_answer_is_settled_as_ever() -> None:
    bench = BenchWithoutStore()
    bench.effects.betrayals["POST"] = answer_lost()

    with pytest.raises(BlnkctlError):
        create(bench)

    bench.effects.mended()
    assert settle(bench).decision is RecoverDecision.UNDONE
    assert_undone(bench)
