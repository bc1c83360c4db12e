"""Every command's JSON document, pinned whole, on success and on each kind of failure."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from blnkctl.adapters.blnk.server import BlnkServer
from blnkctl.sandbox import Sandbox
from tests.cli.pinned import DOCUMENTS, assert_pinned
from tests.cli.stage import CREATE, add_context, created, key_file, without_target
from tests.conftest import ADMIN_KEY, Blnkctl, Outcome
from tests.trouble import FastTime, Troubled, closed_port, hang_up, page, start_troubled

__all__ = ["start_troubled"]
Start = Callable[..., Sandbox]
LINES = ("jsonl", "tsv", "csv", "ids")


@dataclass(frozen=True)
class Case:
    """A command line whose document is pinned under `name`."""

    name: str
    words: str
    code: int = 0
    first: Sequence[str] = ()
    stdin: str = ""
    reveals: bool = False

    def prepare(self, machine: Blnkctl) -> None:
        """Run what comes before."""
        for line in self.first:
            outcome = machine.run(*line.split())
            assert outcome.code == 0, outcome.err

    def run(self, machine: Blnkctl, output: str = "json") -> Outcome:
        """Run the command line itself."""
        words, dashes, child = self.words.partition(" -- ")
        arguments = [word.replace("␣", " ") for word in words.split()]
        after = ["--", *child.split()] if dashes else []
        return machine.run(*arguments, "-o", output, *after, stdin=self.stdin, reveals=self.reveals)


BILLING = " ".join(CREATE)
ANOTHER = "keys create ci --owner globex --scope ledgers:read"

WELL = [
    Case("keys-create", BILLING),
    Case("keys-create-if-absent", f"{BILLING} --if-absent", first=[BILLING]),
    Case("keys-create-reveal", f"{BILLING} --reveal", reveals=True),
    Case("keys-list", "keys list", first=[BILLING]),
    Case("keys-list-of-two-owners", "keys list", first=[BILLING, ANOTHER]),
    Case("keys-list-empty", "keys list --owner nobody"),
    Case("keys-show", "keys show acme/billing", first=[BILLING]),
    Case("keys-verify", "keys verify acme/billing", first=[BILLING]),
    Case("keys-can", "keys can acme/billing GET /ledgers", first=[BILLING]),
    Case("keys-reveal", "keys reveal acme/billing", first=[BILLING], reveals=True),
    Case("keys-revoke", "keys revoke acme/billing --yes", first=[BILLING]),
    Case("keys-revoke-again", "keys revoke acme/billing", first=[BILLING, "keys revoke acme/billing --yes"]),
    Case("keys-revoke-dry-run", "keys revoke --owner acme --dry-run", first=[BILLING]),
    Case("keys-revoke-nothing", "keys revoke --owner nobody --yes"),
    Case("keys-rotate", "keys rotate acme/billing", first=[BILLING]),
    Case("keys-rotate-again", "keys rotate acme/billing", first=[BILLING, "keys rotate acme/billing"]),
    Case("keys-rotate-now", "keys rotate acme/billing --now --yes", first=[BILLING]),
    Case("keys-rotate-keep-old", "keys rotate acme/billing --keep-old", first=[BILLING]),
    Case("keys-rotate-dry-run", "keys rotate --owner acme --owner globex --dry-run", first=[BILLING, ANOTHER]),
    Case("keys-rotate-nothing", "keys rotate --owner nobody"),
    Case("keys-finish-nothing", "keys finish --owner acme"),
    Case("keys-finish-not-due", "keys finish", first=[BILLING, "keys rotate acme/billing"]),
    Case("migrate-plan-nothing-dies", "migrate plan --owner nobody"),
    Case("migrate-run-nothing-dies", "migrate run", first=[BILLING]),
    Case("migrate-status-nothing", "migrate status"),
    Case("migrate-verify-nothing", "migrate verify"),
    Case("migrate-finish-nothing", "migrate finish"),
    Case("migrate-report-nothing", "migrate report"),
    Case("owners-list", "owners list", first=[BILLING, "owners add globex"]),
    Case("owners-add", "owners add acme globex"),
    Case("owners-remove", "owners remove acme", first=["owners add acme"]),
    Case("owners-import", "owners import -", stdin="acme\n\nglobex\n"),
    Case("doctor", "doctor", first=[BILLING]),
    Case("recover-nothing", "recover"),
    Case("scopes-list", "scopes list"),
    Case("scopes-check", "scopes check ledgers:read,identities:read metadata:write *:*"),
    Case("scopes-explain", "scopes explain identities:write"),
    Case("store-status", "store status", first=[BILLING]),
    Case("store-init-again", "store init --no-passphrase"),
    Case("store-lock", "store lock"),
    Case("store-rekey", "store rekey --new-identity", first=[BILLING]),
    Case("store-sync-agreed", "store sync", first=[BILLING]),
    Case("store-prune", "store prune --yes", first=[BILLING, "keys revoke acme/billing --yes"]),
    Case("store-prune-dry-run", "store prune --dry-run", first=[BILLING, "keys revoke acme/billing --yes"]),
]

BAD = [
    Case("usage-no-command", "keys", 2),
    Case("usage-unknown-command", "keys crate", 2),
    Case("usage-unknown-group", "kyes list", 2),
    Case("usage-unknown-option", "keys list --ownr acme", 2),
    Case("usage-missing-argument", "keys create", 2),
    Case("usage-too-many-words", "keys list acme", 2),
    Case("usage-bad-timeout", "keys list --timeout soon", 2),
    Case("usage-bad-status", "keys list --status lost", 2),
    Case("usage-contradicting-owners", "keys list --all-owners --owner acme", 2),
    Case("usage-no-owner-known", "keys list", 2),
    Case("usage-owners-from-nothing", "keys list --owners-from -", 2),
    Case("usage-no-key", "keys show", 2),
    Case("usage-no-key-word", "keys show billing", 2),
    Case("usage-owner-not-known", "keys show acme/billing", 2),
    Case("usage-ambiguous-key", "keys show api_key_", 2, first=[BILLING, ANOTHER]),
    Case("usage-ambiguous-name", "keys revoke acme/billing", 2, first=[BILLING, f"{BILLING} --allow-duplicate"]),
    Case("usage-neither-key-nor-selector", "keys revoke", 2),
    Case("usage-keys-and-selectors", "keys revoke acme/billing --status active", 2),
    Case("usage-rotate-neither-key-nor-selector", "keys rotate", 2),
    Case("usage-rotate-keys-and-selectors", "keys rotate acme/billing --all-owners", 2),
    Case("usage-rotate-two-ways", "keys rotate acme/billing --now --grace 1d", 2),
    Case("usage-rotate-scopes-and-scopes", "keys rotate acme/billing --scope *:* --add-scope ledgers:read", 2),
    Case("usage-rotate-sinks-and-none", "keys rotate acme/billing --to env-file:/srv/.env --no-deliver", 2),
    Case("usage-rotate-unknown-scope", "keys rotate acme/billing --add-scope ledger:read", 2, first=[BILLING]),
    Case("usage-rotate-past-expiry", "keys rotate acme/billing --expires 2020-01-01", 2, first=[BILLING]),
    Case("usage-rotate-month-or-minute", "keys rotate acme/billing --grace 5m", 2, first=[BILLING]),
    Case("usage-rotate-ambiguous", "keys rotate acme/billing", 2, first=[BILLING, f"{BILLING} --allow-duplicate"]),
    Case(
        "usage-rotate-which-leaked",
        "keys rotate acme/billing --compromised --yes",
        2,
        first=[BILLING, "keys rotate acme/billing"],
    ),
    Case("usage-finish-two-rules", "keys finish --older-than 1d --when-used", 2),
    Case("usage-finish-quiet-alone", "keys finish --quiet-for 1d", 2),
    Case("usage-migrate-bad-version", "migrate plan --for-core soon", 2),
    Case("usage-migrate-no-owner", "migrate run", 2),
    Case("usage-migrate-no-plan", "migrate run /srv/gone.json", 2),
    Case("usage-migrate-no-export", "migrate plan --from-csv -", 2, stdin="id,name\n"),
    Case("usage-migrate-bad-after", "migrate finish --after 2mo", 2),
    Case("rotate-revoked", "keys rotate acme/billing", 2, first=[BILLING, "keys revoke acme/billing --yes"]),
    Case("rotate-scope-not-held", "keys rotate acme/billing --drop-scope search:read", 2, first=[BILLING]),
    Case(
        "rotate-made-already",
        "keys rotate acme/billing --drop-scope ledgers:read",
        2,
        first=[BILLING, "keys rotate acme/billing"],
    ),
    Case("rotate-unknown-key", "keys rotate acme/gone", 7, first=[BILLING]),
    Case("usage-blank-name", "keys create ␣ --owner acme --scope ledgers:read", 2),
    Case("usage-no-scope", "keys create ci --owner acme", 2),
    Case("usage-unknown-scope", "keys create ci --owner acme --scope ledger:read", 2),
    Case("usage-no-owner", "keys create ci --scope ledgers:read", 2),
    Case("usage-bad-expiry", "keys create ci --owner acme --scope ledgers:read --expires soon", 2),
    Case("usage-past-expiry", "keys create ci --owner acme --scope ledgers:read --expires 2020-01-01", 2),
    Case("usage-contradiction", f"{BILLING} --if-absent --allow-duplicate", 2),
    Case("name-taken", BILLING, 2, first=[BILLING]),
    Case(
        "name-taken-other-scopes", "keys create billing --owner acme --scope ledgers:read --if-absent", 2, [BILLING]
    ),
    Case("exec-without-dashes", "keys exec acme/billing true", 2),
    Case("exec-bad-variable", "keys exec acme/billing --env 1X -- true", 2),
    Case("sandbox-without-dashes", "sandbox true", 2),
    Case("sandbox-bad-core", "sandbox --core 0.9", 2),
    Case("import-from-a-command", "keys import --from command:pass", 2),
    Case("import-without-its-key", "keys import --from env-file:/srv/{owner}/.env", 2),
    Case("import-from-no-sink", "keys import --from .env", 2),
    Case("owners-remove-unknown", "owners remove acme", 7),
    Case("owners-remove-known-from-keys", "owners remove acme", 7, first=[BILLING]),
    Case("no-such-key", "keys show acme/gone", 7, first=[BILLING]),
    Case("no-such-id", "keys show api_key_ffffffff --owner acme", 7),
    Case("secret-not-held", "keys reveal acme/billing", 7),
    Case("key-ended", "keys reveal acme/billing", 7, first=[BILLING, "keys revoke acme/billing --yes"]),
    Case("scopes-check-unknown", "scopes check ledger:read nonsense", 10),
    Case("can-missing-scope", "keys can acme/billing POST /ledgers", 10, first=[BILLING]),
    Case("can-ended", "keys can acme/billing GET /ledgers", 10, first=[BILLING, "keys revoke acme/billing --yes"]),
    Case("can-not-allowed", "keys can acme/billing GET /hooks", 10, first=[BILLING]),
    Case("can-pasted", "keys can - GET /ledgers", 10, stdin='{"error":"Insufficient permissions for ledgers:read"}'),
    Case("usage-can-method", "keys can acme/billing GTE /ledgers", 2),
    Case("usage-can-path", "keys can acme/billing GET /%zz", 2),
    Case("usage-can-neither", "keys can - GET /ledgers", 2),
    Case("declined", "keys revoke acme/billing", 11, first=[BILLING]),
    Case("declined-rotate-now", "keys rotate acme/billing --now", 11, first=[BILLING]),
    Case("declined-rotate-many", "keys rotate --owner acme", 11, first=[BILLING]),
    Case("declined-wide-scopes", "keys create root --owner acme --scope *:*", 11),
]


@pytest.mark.parametrize("case", WELL, ids=lambda case: case.name)
def test_a_command_that_ends_well_prints_one_document(case: Case, operator: Blnkctl) -> None:
    case.prepare(operator)

    outcome = case.run(operator)

    assert outcome.code == 0, outcome.err
    assert_pinned(case.name, outcome.out, operator)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_command_that_fails_prints_one_document_and_the_same_words(case: Case, operator: Blnkctl) -> None:
    case.prepare(operator)

    outcome = case.run(operator)

    assert_failure(case, outcome, operator)


def assert_failure(case: Case, outcome: Outcome, machine: Blnkctl) -> None:
    """The document is pinned, and the words on standard error are the document's."""
    assert outcome.code == case.code, outcome.err
    for error in json.loads(outcome.out)["errors"]:
        assert outcome.err.count(f"error: {error['message']}\n") == 1
        assert error["hint"], f"nothing says what to type next: {error['message']}"
        assert f"hint: {error['hint']}\n" in outcome.err
    assert_pinned(case.name, outcome.out, machine)


@pytest.mark.parametrize("case", [case for case in BAD if case.name.startswith("usage-")], ids=lambda case: case.name)
@pytest.mark.parametrize("output", LINES)
def test_lines_leave_standard_output_empty_on_a_failure(case: Case, output: str, operator: Blnkctl) -> None:
    case.prepare(operator)

    outcome = case.run(operator, output)

    assert (outcome.code, outcome.out) == (2, "")
    assert "error: " in outcome.err


# --- contexts -----------------------------------------------------------------------------------


CONTEXTS = [
    Case("context-show", "context show"),
    Case("context-show-named", "context show prod"),
    Case("context-list", "context list"),
    Case("context-use", "context use prod"),
    Case("context-set", "context set prod --owner acme --owner globex --protected --grace 1w"),
    Case("context-rename", "context rename prod production"),
    Case("context-remove", "context remove prod --yes"),
    Case("context-export", "context export"),
    Case("context-import", "context import -", stdin='[contexts.ci]\nurl = "https://ci.example.com"\n'),
    Case("keys-list-of-a-context", "keys list --owner acme", first=[BILLING]),
    Case("context-exists", "context rename prod staging", 2),
    Case("context-bad-name", "context rename prod a␣b", 2),
    Case("context-import-taken", "context import -", 2, stdin='[contexts.prod]\nurl = "https://ci.example.com"\n'),
    Case("context-import-broken", "context import -", 2, stdin="[contexts\n"),
    Case("context-add-again", "context add prod --url https://a.example.com", 2),
    Case("context-add-without-url", "context add ci --store age", 2),
    Case("context-add-without-key", "context add ci --store age --url https://a.example.com", 2),
    Case(
        "context-add-two-keys",
        "context add ci --store age --url https://a.example.com --admin-key-stdin --admin-key-file f",
        2,
    ),
    Case("context-add-without-keyring", "context add ci --url https://a.example.com", 5),
    Case("context-add-unknown-store", "context add ci --url https://a.example.com --store vault", 2),
    Case("context-add-plain-http", "context add ci --url http://a.example.com --store age --admin-key-file f", 2),
    Case("context-set-no-grace", "context set prod --grace 0h", 2),
    Case("context-set-month-or-minute", "context set prod --grace 5m", 2),
    Case("context-set-url-asks-for-the-key", "context set prod --url https://b.example.com", 2),
    Case("context-unknown", "context use nowhere", 7),
    Case("context-unknown-by-flag", "keys list --context nowhere", 7),
    Case("context-remove-declined", "context remove prod", 11),
    Case(
        "context-import-declined",
        "context import -",
        11,
        stdin='[contexts.ci]\nurl = "https://ci.example.com"\nadmin_key = { command = "pass show blnk" }\n',
    ),
]


@pytest.mark.parametrize("case", CONTEXTS, ids=lambda case: case.name)
def test_a_command_about_contexts_prints_one_document(case: Case, operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "staging", sandbox)
    add_context(operator, "prod", sandbox, "--owner", "acme")
    case.prepare(operator)

    outcome = case.run(operator)

    assert_failure(case, outcome, operator)


def test_adding_a_context_prints_it(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)

    outcome = add_context(operator, "prod", sandbox, "--owner", "acme", "--protected", "-o", "json")

    assert_pinned("context-add", outcome.out, operator)


# --- configuration ------------------------------------------------------------------------------


NOWHERE = [
    Case("no-context", "keys list", 3),
    Case("no-context-doctor", "doctor", 3),
    Case("no-context-show", "context show", 3),
    Case("context-list-empty", "context list"),
    Case("context-export-empty", "context export"),
]


@pytest.mark.parametrize("case", NOWHERE, ids=lambda case: case.name)
def test_without_any_configuration_the_document_names_the_first_steps(case: Case, blnkctl: Blnkctl) -> None:
    outcome = case.run(blnkctl)

    assert_failure(case, outcome, blnkctl)


def test_a_configuration_that_cannot_be_parsed_is_told_by_line_and_column(blnkctl: Blnkctl) -> None:
    (blnkctl.home / "config").mkdir()
    (blnkctl.home / "config" / "config.toml").write_text('current = "prod"\n[contexts.prod\n')
    case = Case("bad-configuration", "keys list", 3)

    assert_failure(case, case.run(blnkctl), blnkctl)


def test_a_url_without_its_admin_key_is_not_enough(operator: Blnkctl) -> None:
    del operator.environment["BLNKCTL_ADMIN_KEY"]
    case = Case("no-admin-key", "keys list", 3)

    assert_failure(case, case.run(operator), operator)


def test_two_sources_of_an_admin_key_are_ambiguous(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_ADMIN_KEY_FILE"] = str(key_file(operator))
    case = Case("ambiguous-target", "keys list", 2)

    assert_failure(case, case.run(operator), operator)


def test_creating_without_a_store_names_store_init(operator: Blnkctl) -> None:
    del operator.environment["BLNKCTL_STORE"]
    case = Case("no-keyring", BILLING, 5)

    assert_failure(case, case.run(operator), operator)


# --- the store ----------------------------------------------------------------------------------


def test_a_store_that_is_not_there_fails_before_anything_is_sent(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "elsewhere")
    case = Case("store-missing", BILLING, 5)

    assert_failure(case, case.run(operator), operator)


def test_a_locked_store_says_how_to_open_it(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "locked")
    made = operator.run("store", "init", "--passphrase-stdin", "-o", "json", stdin="correct horse\n")
    assert_pinned("store-init", made.out, operator)
    case = Case("store-locked", "keys reveal acme/billing", 5, first=[BILLING])
    for line in case.first:
        assert operator.run(*line.split(), env={"BLNKCTL_STORE_PASSPHRASE": "correct horse"}).code == 0

    assert_failure(case, case.run(operator), operator)


def test_a_doctor_who_finds_a_failure_prints_every_check(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_STORE_DIR"] = str(operator.home / "elsewhere")
    case = Case("doctor-fail", "doctor", 10)

    assert_failure(case, case.run(operator), operator)


def test_the_index_learns_of_what_the_store_holds_and_has_lost(operator: Blnkctl) -> None:
    key = created(operator)
    shutil.rmtree(operator.home / "state")
    assert operator.run("owners", "add", "acme").code == 0

    found = operator.run("store", "sync", "-o", "json")
    assert_pinned("store-sync-found", found.out, operator)
    (entry,) = (operator.home / "store").rglob(f"{key['id']}*")
    entry.unlink()
    lost = operator.run("store", "sync", "-o", "json")
    assert_pinned("store-sync-lost", lost.out, operator)
    assert (found.code, lost.code) == (0, 0)


# --- servers ------------------------------------------------------------------------------------


OLD = [
    Case("before-0.12-list", "keys list", 12),
    Case("before-0.12-show", "keys show acme/billing", 12),
    Case("before-0.12-revoke", "keys revoke acme/billing --yes", 12),
    Case("before-0.12-migrate-plan", "migrate plan --owner acme", 12),
    Case("before-0.12-rotate", "keys rotate acme/billing", 12),
    Case("before-0.12-finish", "keys finish", 12),
    Case("before-0.12-if-absent", "keys create ci --owner acme --scope ledgers:read --if-absent", 12),
    Case("before-0.12-name-taken", BILLING, 2),
    Case("before-0.12-doctor", "doctor"),
    Case("before-0.12-verify", "keys verify acme/billing"),
]


@pytest.mark.parametrize("case", OLD, ids=lambda case: case.name)
def test_before_0_12_a_document_says_what_still_works(case: Case, blnkctl: Blnkctl, start_sandbox: Start) -> None:
    machine = blnkctl.use(start_sandbox("0.11.6"))
    assert machine.run(*CREATE).code == 0

    assert_failure(case, case.run(machine), machine)


def test_a_server_without_secure_mode_is_refused(blnkctl: Blnkctl, start_sandbox: Start) -> None:
    machine = blnkctl.use(start_sandbox(insecure=True))

    for case in (Case("secure-mode-off", BILLING, 4), Case("secure-mode-off-doctor", "doctor", 10)):
        assert_failure(case, case.run(machine), machine)


def test_a_wrong_admin_key_is_refused(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_ADMIN_KEY"] = "not-the-master-key"

    for case in (Case("wrong-admin-key", "keys list --owner acme", 4), Case("wrong-admin-key-doctor", "doctor", 10)):
        assert_failure(case, case.run(operator), operator)


def test_an_api_key_in_place_of_the_admin_key_is_told_as_one(operator: Blnkctl) -> None:
    assert operator.run(*CREATE).code == 0
    operator.environment["BLNKCTL_ADMIN_KEY"] = operator.run("keys", "reveal", "acme/billing", reveals=True).out
    case = Case("admin-key-is-api-key", "keys list --owner acme", 4)

    assert_failure(case, case.run(operator), operator)


def test_an_admin_key_that_cannot_be_sent_is_never_quoted(operator: Blnkctl) -> None:
    operator.environment["BLNKCTL_ADMIN_KEY"] = "two\nlines-of-a-key"
    case = Case("unusable-secret", "keys list --owner acme", 2)

    assert_failure(case, case.run(operator), operator)


def test_a_server_that_is_away_was_sent_nothing(operator: Blnkctl) -> None:
    with closed_port() as port:
        operator.environment["BLNKCTL_URL"] = f"http://127.0.0.1:{port}"
        for case in (Case("unreachable", BILLING, 9), Case("unreachable-doctor", "doctor", 10)):
            assert_failure(case, case.run(operator), operator)


def test_a_server_that_fails_to_list_is_to_be_tried_again(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    server.upset(page(502), "GET", "/api-keys.*")
    machine = blnkctl.use(server)
    case = Case("server-error", "keys list --owner acme", 1)

    assert_failure(case, case.run(machine), machine)


def test_one_owner_that_cannot_be_listed_makes_the_list_incomplete(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    assert machine.run(*CREATE).code == 0
    server.upset(page(502), "GET", r"/api-keys\?owner=globex")
    case = Case("list-incomplete", "keys list --owner acme --owner globex", 8)

    assert_failure(case, case.run(machine), machine)


def test_a_create_without_an_answer_is_unknown_until_recovered(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    server.upset(hang_up, "POST", "/api-keys")
    time = FastTime(monkeypatch)
    case = Case("outcome-unknown", BILLING, 6)

    assert_failure(case, case.run(machine), machine)
    waiting = Case("recover-waiting", "recover", 8)
    assert_failure(waiting, waiting.run(machine), machine)
    time.pass_by(61)
    undone = Case("recover-undone", "recover")
    assert_failure(undone, undone.run(machine), machine)


def test_a_key_that_could_not_be_revoked_makes_a_bulk_revoke_partial(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    assert machine.run(*CREATE).code == 0
    assert machine.run(*ANOTHER.split()).code == 0
    server.upset(page(502), "DELETE", ".*owner=globex")
    case = Case("revoke-partial", "keys revoke --owner acme --owner globex --yes", 8)

    assert_failure(case, case.run(machine), machine)


def test_a_key_that_does_not_authenticate_trips_verify(operator: Blnkctl, monkeypatch: pytest.MonkeyPatch) -> None:
    FastTime(monkeypatch)
    assert operator.run(*CREATE).code == 0
    listed = json.loads(operator.run("keys", "list", "-o", "json").out)["data"]
    assert operator.run("keys", "revoke", "acme/billing", "--yes").code == 0
    case = Case("verify-revoked", f"keys verify {listed[0]['id']}", 10)

    assert_failure(case, case.run(operator), operator)


# --- which format, which command ----------------------------------------------------------------


def test_on_a_usage_error_the_format_is_the_last_one_before_the_dashes(operator: Blnkctl) -> None:
    lasts = [
        (("-o", "tsv", "-o", "json"), True),
        (("-o", "json", "-o", "tsv"), False),
        (("--output=json",), True),
        (("-ojson",), True),
        (("-o", "tsv", "--", "-o", "json"), False),
        ((), False),
    ]

    for words, is_document in lasts:
        outcome = operator.run("keys", "crate", *words)
        assert outcome.code == 2
        assert bool(outcome.out) is is_document, words


def test_a_usage_error_takes_the_format_of_the_environment_where_none_is_given(operator: Blnkctl) -> None:
    assert json.loads(operator.run("keys", "crate", env={"BLNKCTL_OUTPUT": "json"}).out)["status"] == "error"
    assert operator.run("keys", "crate", "-o", "tsv", env={"BLNKCTL_OUTPUT": "json"}).out == ""


def test_the_command_of_a_usage_error_is_the_longest_known_prefix(operator: Blnkctl) -> None:
    commands = {
        ("nonsense",): "",
        ("keys",): "keys",
        ("keys", "nonsense"): "keys",
        ("--context", "keys", "--quiet", "keys", "list", "--nonsense"): "keys list",
        ("doctor", "--nonsense"): "doctor",
        ("keys", "--timeout", "list", "show", "--nonsense"): "keys show",
    }

    for words, command in commands.items():
        document = json.loads(operator.run("-o", "json", *words).out)
        assert (document["command"], document["data"]) == (command, None)


def test_a_bug_is_told_without_its_values(operator: Blnkctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError(ADMIN_KEY)

    monkeypatch.setattr(BlnkServer, "profile", crash)
    case = Case("bug", "keys list --owner acme", 1)

    outcome = case.run(operator)

    assert_failure(case, outcome, operator)
    assert "Traceback" not in outcome.err


def test_every_pinned_document_belongs_to_a_case() -> None:
    cases = {case.name for case in (*WELL, *BAD, *CONTEXTS, *NOWHERE, *OLD)}
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    orphans = {path.stem for path in DOCUMENTS.glob("*.json")} - cases

    assert {name for name in orphans if f'"{name}"' not in text} == set()
