"""--help at every level: examples, exit codes, options that exist, and nothing that is not built."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from blnkctl.cli.root import build_root
from tests.conftest import Blnkctl

GROUPS = {"", "context", "owners", "keys", "migrate", "scopes", "store"}
GLOBAL = {
    "--context", "--output", "-o", "--yes", "-y", "--no-input", "--quiet", "-q", "--verbose", "-v", "--debug",
    "--timeout", "--reason", "--help", "-h",
}  # fmt: skip
TREE = {
    "": ["context", "owners", "doctor", "keys", "migrate", "scopes", "recover", "store", "completion", "sandbox"],
    "context": ["add", "set", "list", "use", "show", "rename", "remove", "export", "import"],
    "owners": ["list", "add", "remove", "import"],
    "keys": [
        "create",
        "list",
        "show",
        "verify",
        "can",
        "exec",
        "deliver",
        "reveal",
        "import",
        "identify",
        "rotate",
        "finish",
        "revoke",
        "forget",
    ],
    "migrate": ["plan", "run", "status", "verify", "finish", "report"],
    "scopes": ["list", "check", "explain"],
    "store": ["init", "status", "unlock", "lock", "rekey", "move", "sync", "prune"],
}
COMMANDS = [
    f"{group} {name}".strip()
    for group, names in TREE.items()
    for name in names
    if f"{group} {name}".strip() not in TREE
]
EVERYTHING = [*TREE, *COMMANDS]
SAID_EXIT_CODES = re.compile(r"Exit codes: (?:\d+|the command's own)")
NOT_BUILT = re.compile(
    r"audit|admin-key (?:generate|rotate)|--server-config"
    r"|vault:|--expiring-(?:before|after)|--unused-for"
)


def walk(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every node of the real command tree with its path."""
    yield path, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), f"{path} {name}".strip())


def nodes() -> dict[str, Any]:
    """Return the real command tree by path."""
    return dict(walk(build_root()))


def options_of(node: Any) -> set[str]:
    """Return the options that a command takes."""
    return {option for param in node.params for option in (*param.opts, *param.secondary_opts) if option[0] == "-"}


def help_of(machine: Blnkctl, path: str, flag: str = "--help") -> str:
    """Return the help of a path."""
    outcome = machine.run(*path.split(), flag)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def test_the_tree_is_what_is_built_in_the_order_of_use() -> None:
    assert {path: _names(node) for path, node in nodes().items() if _names(node)} == TREE


def _names(node: Any) -> list[str]:
    return list(node.list_commands(typer.Context(node))) if hasattr(node, "list_commands") else []


@pytest.mark.parametrize("path", EVERYTHING)
def test_every_help_begins_with_its_usage_and_ends_with_examples(path: str, blnkctl: Blnkctl) -> None:
    text = help_of(blnkctl, path)

    assert text.startswith(f"Usage: blnkctl {path} [OPTIONS]".replace("  ", " "))
    examples = text.partition("Examples:\n")[2].splitlines()
    assert examples
    assert all("blnkctl" in line for line in examples)
    assert path in " ".join(examples)


@pytest.mark.parametrize("path", EVERYTHING)
def test_the_short_flag_shows_the_same(path: str, blnkctl: Blnkctl) -> None:
    assert help_of(blnkctl, path, "-h") == help_of(blnkctl, path)


@pytest.mark.parametrize("path", EVERYTHING)
def test_every_line_fits_eighty_columns_and_is_plain(path: str, blnkctl: Blnkctl) -> None:
    text = help_of(blnkctl, path)

    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert re.search("[\x00-\x09\x0b-\x1f\x7f]", text) is None


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_says_its_exit_codes(path: str, blnkctl: Blnkctl) -> None:
    assert SAID_EXIT_CODES.search(" ".join(help_of(blnkctl, path).split())) is not None


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_lists_its_own_options_and_the_global_ones(path: str, blnkctl: Blnkctl) -> None:
    node, text = nodes()[path], help_of(blnkctl, path)

    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.partition("Examples:")[0]))
    assert options_of(node) | GLOBAL <= named
    assert all(param.help for param in node.params)


@pytest.mark.parametrize("path", EVERYTHING)
def test_only_options_that_exist_are_mentioned(path: str, blnkctl: Blnkctl) -> None:
    existing = set().union(*(options_of(node) for node in nodes().values()), GLOBAL, {"--version"})
    own = options_of(nodes()[path]) | GLOBAL | {"--version"}

    text, _, examples = help_of(blnkctl, path).partition("Examples:\n")

    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= own
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", examples)) <= existing


@pytest.mark.parametrize("path", EVERYTHING)
def test_every_example_is_a_command_line_that_can_be_parsed(path: str, blnkctl: Blnkctl) -> None:
    tree = nodes()
    for line in help_of(blnkctl, path).partition("Examples:\n")[2].splitlines():
        command = re.search(r"(?:^|[|;(] ?)\s*blnkctl (.*?)(?:\s+#.*|\s+[|>].*)?$", line)
        assert command is not None, line
        words = command[1].partition(" -- ")[0].split()
        depth = next(count for count in (2, 1) if count <= len(words) and " ".join(words[:count]) in tree)
        taken = options_of(tree[" ".join(words[:depth])]) | GLOBAL
        assert {word for word in words if word.startswith("-") and len(word) > 1} <= taken, line


@pytest.mark.parametrize("path", EVERYTHING)
def test_nothing_that_is_not_built_is_shown(path: str, blnkctl: Blnkctl) -> None:
    found = NOT_BUILT.search(help_of(blnkctl, path))

    assert found is None


@pytest.mark.parametrize("path", sorted(GROUPS))
def test_a_group_without_a_word_shows_its_help_and_says_that_a_command_is_missing(
    path: str, blnkctl: Blnkctl
) -> None:
    outcome = blnkctl.run(*path.split())

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(help_of(blnkctl, path))
    assert outcome.err.endswith(
        f"error: No command is given.\nhint: blnkctl {path} COMMAND --help\n".replace("  ", " ")
    )


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("kyes",), "keys"),
        (("contxt", "list"), "context"),
        (("doktor",), "doctor"),
        (("keys", "crate"), "create"),
        (("keys", "delete-nothing-like-it"), None),
        (("keys", "lst"), "list"),
        (("context", "ad"), "add"),
        (("owners", "improt"), "import"),
        (("scopes", "expalin"), "explain"),
        (("store", "stauts"), "status"),
    ],
)
def test_an_unknown_command_suggests_the_nearest(
    words: tuple[str, ...], nearest: str | None, blnkctl: Blnkctl
) -> None:
    outcome = blnkctl.run(*words)

    assert outcome.code == 2
    wrong = words[-1] if words[0] in TREE else words[0]
    assert f"error: There is no command '{wrong}'.\n" in outcome.err
    if nearest is None:
        assert f"hint: Commands: {', '.join(TREE['keys'])}.\n" in outcome.err
    else:
        assert f"hint: Did you mean {nearest}?\n" in outcome.err


def test_help_wins_over_what_else_stands_there(blnkctl: Blnkctl) -> None:
    for words in (("keys", "create", "--help", "x"), ("keys", "create", "x", "--expires", "soon", "-h")):
        outcome = blnkctl.run(*words)
        assert (outcome.code, outcome.out) == (0, help_of(blnkctl, "keys create"))
