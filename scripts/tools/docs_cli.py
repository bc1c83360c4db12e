"""The reference of the command line, from the command tree itself."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from blnkctl.cli.options import global_options
from blnkctl.cli.root import build_root

HEAD = """\
# The command line

Generated from the program by `scripts/docs`; `tests/test_docs.py` fails where this page differs from it.
Output formats, exit codes, error codes and environment variables are in [scripting.md](scripting.md).

## Options that work everywhere

After the root and before `--`, in any place; the last one wins. `blnkctl --version` prints the version.
"""


def cli_page() -> str:
    """Return the page."""
    sections = [section(path, node) for path, node in walk("blnkctl", build_root())]
    return "\n\n".join([HEAD.strip(), table(global_options()), *sections]) + "\n"


def walk(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command or group, and each one below it."""
    yield path, node
    for name, command in commands_of(path, node):
        yield from walk(f"{path} {name}", command)


def commands_of(path: str, node: Any) -> list[tuple[str, Any]]:
    """Return the commands of a group, in its order."""
    if not hasattr(node, "list_commands"):
        return []
    context = typer.Context(node, info_name=path)
    return [(name, node.get_command(context, name)) for name in node.list_commands(context)]


def section(path: str, node: Any) -> str:
    """Return the section of one command or group."""
    usage = " ".join([path, *node.collect_usage_pieces(typer.Context(node, info_name=path))])
    links = [link(f"{path} {name}", command) for name, command in commands_of(path, node)]
    params = own_params(node)
    parts = [
        f"## {path}",
        f"```\n{usage}\n```",
        prose(node.help or ""),
        "\n".join(links),
        table(params) if params else "",
        examples(node.epilog or ""),
    ]
    return "\n\n".join(part for part in parts if part)


def own_params(node: Any) -> list[Any]:
    """Return the arguments and options that not every command has."""
    everywhere = {option.name for option in global_options()} | {"version"}
    return [param for param in node.params if param.name not in everywhere]


def link(path: str, node: Any) -> str:
    """Return a command's line in the list of its group."""
    fragment = path.replace(" ", "-")
    return f"- [`{path}`](#{fragment}): {prose(node.help).split('. ')[0].splitlines()[0].rstrip('.')}."


def prose(text: str) -> str:
    """Return a help text as Markdown."""
    return re.sub(r"([<*|])", r"\\\1", text.strip())


def table(params: Sequence[Any]) -> str:
    """Return arguments and options as a table."""
    rows = [f"| {code(spelling(param))} | {prose(param.help or '')}{default(param)} |" for param in params]
    return "\n".join(["| | |", "|---|---|", *rows])


def spelling(param: Any) -> str:
    """Return how an argument or option is written."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name)
    names = ", ".join(param.opts)
    return f"{names} {param.metavar}" if param.metavar and not param.is_flag else names


def default(param: Any) -> str:
    """Return what stands for an option that is not given, where that is a value."""
    return "" if param.default in (None, False, "", ()) else f" Default: {code(str(param.default))}."


def code(text: str) -> str:
    """Return code in a table's cell."""
    return "`{}`".format(text.replace("|", "\\|"))


def examples(epilog: str) -> str:
    """Return the examples as a block."""
    lines = [line.strip() for line in epilog.replace("\b", "").strip().splitlines()[1:]]
    return "\n".join(["```sh", *lines, "```"])
