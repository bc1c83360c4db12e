"""`blnkctl owners …`: what is remembered for each server, and from where."""

from collections.abc import Callable

from blnkctl.sandbox import Sandbox
from tests.cli.stage import CREATE, add_context, created, data, without_target
from tests.conftest import Blnkctl
from tests.trouble import failure


def listed(machine: Blnkctl) -> dict[str, tuple[str, int]]:
    """Return where each owner is known from, and its number of keys."""
    return {
        owner["owner"]: (owner["source"], owner["keys"])
        for owner in data(machine.run("owners", "list", "-o", "json"))
    }


def test_owners_are_known_from_what_was_added_the_context_and_the_keys_made(
    operator: Blnkctl, sandbox: Sandbox
) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox, "--owner", "globex")
    created(operator)
    assert operator.run("owners", "add", "initech").code == 0

    assert listed(operator) == {"acme": ("index", 1), "globex": ("context", 0), "initech": ("added", 0)}


def test_adding_says_what_was_new(operator: Blnkctl) -> None:
    assert operator.run("owners", "add", "a", "b").err.endswith("2 new, 0 known already.\n")
    assert operator.run("owners", "add", "b", "c", "c").err.endswith("1 new, 1 known already.\n")
    assert set(listed(operator)) == {"a", "b", "c"}


def test_an_added_owner_is_listed_with_the_others(operator: Blnkctl, make_machine: Callable[[str], Blnkctl]) -> None:
    created(operator)
    colleague = make_machine("colleague")
    colleague.environment |= {name: operator.environment[name] for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY")}

    assert colleague.run("keys", "list").code == 2
    assert colleague.run("owners", "add", "acme").code == 0
    assert [key["name"] for key in data(colleague.run("keys", "list", "-o", "json"))] == ["billing"]


def test_only_what_was_added_can_be_removed(operator: Blnkctl, sandbox: Sandbox) -> None:
    without_target(operator)
    add_context(operator, "prod", sandbox, "--owner", "globex")
    created(operator)
    assert operator.run("owners", "add", "initech").code == 0

    failure(operator.run("owners", "remove", "acme", "-o", "json"), 7, "no_such_owner")
    failure(operator.run("owners", "remove", "nobody", "-o", "json"), 7, "no_such_owner")
    told = failure(operator.run("owners", "remove", "globex", "-o", "json"), 2, "owner_of_context")
    assert told["hint"] == "Change them with: blnkctl context set prod --owner …"
    assert operator.run("owners", "remove", "initech").code == 0
    assert set(listed(operator)) == {"acme", "globex"}


def test_removing_several_is_all_or_nothing(operator: Blnkctl) -> None:
    assert operator.run("owners", "add", "a", "b").code == 0

    failure(operator.run("owners", "remove", "a", "nobody", "-o", "json"), 7, "no_such_owner")

    assert set(listed(operator)) == {"a", "b"}


def test_removing_an_owner_touches_no_key(operator: Blnkctl) -> None:
    assert operator.run("owners", "add", "acme").code == 0
    created(operator)

    operator.run("owners", "remove", "acme")

    assert operator.run("keys", "verify", "acme/billing").code == 0


def test_import_reads_a_file_or_standard_input_and_checks_every_line_first(operator: Blnkctl) -> None:
    path = operator.home / "owners.txt"
    path.write_text("acme\n\nglobex\n")

    assert operator.run("owners", "import", str(path)).code == 0
    failure(operator.run("owners", "import", "-", "-o", "json", stdin="fine\nnot\x1bfine\n"), 2, "bad_name")

    assert set(listed(operator)) == {"acme", "globex"}


def test_a_name_that_could_not_be_meant_is_not_remembered(operator: Blnkctl) -> None:
    for owner in ("", " ", "a\x1b", "a\u202e", "x" * 201):
        failure(operator.run("owners", "add", "fine", owner, "-o", "json"), 2, "bad_name")

    assert listed(operator) == {}


def test_owners_belong_to_a_server(operator: Blnkctl, start_sandbox: Callable[..., Sandbox]) -> None:
    assert operator.run("owners", "add", "acme").code == 0

    operator.use(start_sandbox())

    assert listed(operator) == {}


def test_the_owners_in_the_index_outlive_their_keys(operator: Blnkctl) -> None:
    created(operator)
    assert operator.run("keys", "revoke", "acme/billing", "--yes").code == 0

    assert listed(operator) == {"acme": ("index", 1)}
    assert operator.run(*CREATE).code == 0
