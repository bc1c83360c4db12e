"""The root of the command tree. A group's module is imported only when the group is named."""

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, ClassVar

import typer
from typer.main import get_command

from blnkctl import __version__
from blnkctl.cli.options import Group, LazyGroup, application

GROUPS = {
    "context": ("blnkctl.cli.contexts", "Name servers, and choose the one in use."),
    "owners": ("blnkctl.cli.owners", "Remember the owners of keys: Blnk cannot list them."),
    "doctor": ("blnkctl.cli.doctor", "Look at everything that a key's life depends on."),
    "keys": ("blnkctl.cli.keys", "Create, list, show, verify, use and revoke API keys."),
    "migrate": ("blnkctl.cli.migrate", "Recreate the keys that an upgrade of Core kills."),
    "scopes": ("blnkctl.cli.scopes", "Explain what scopes open, before a key has them."),
    "recover": ("blnkctl.cli.recover", "Settle what was begun and not finished."),
    "store": ("blnkctl.cli.store", "Look after the stores of secrets: the OS keyring and the age store."),
    "completion": ("blnkctl.cli.completion", "Make TAB complete commands, contexts, owners, keys and scopes."),
    "sandbox": ("blnkctl.cli.sandbox", "Run a throwaway server to try things on."),
}


class RootGroup(LazyGroup):
    """The root's commands, in the order of a first day's work."""

    table: ClassVar = GROUPS

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, and the two options that are the root's own."""
        super().format_options(ctx, formatter)
        own = [param for param in self.get_params(ctx) if param.name in ("version", "help")]
        with formatter.section("Options"):
            formatter.write_dl([param.get_help_record(ctx) for param in own])


def build_root() -> Any:
    """Return the root command."""
    app = application(
        "Administer the API keys of a Blnk ledger: a key goes from the server straight into the OS keyring or an"
        " encrypted store,"
        " is proven to be there, and is never shown unless asked for.",
        """
        blnkctl sandbox -- bash                # a throwaway server to try things on
        blnkctl context add prod --url https://ledger.example.com
        blnkctl keys create billing --owner acme --scope transactions:write
        blnkctl keys exec acme/billing -- ./run-billing
        """,
        cls=RootGroup,
    )
    app.callback()(_root)
    return get_command(app)


def _show_version(ctx: typer.Context, is_asked_for: bool) -> None:
    if is_asked_for and not ctx.resilient_parsing:
        typer.echo(f"blnkctl {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


def command_names(path: Sequence[str]) -> list[str]:
    """Return the names that may follow a path of the tree."""
    if not path:
        return list(GROUPS)
    if len(path) > 1 or path[0] not in GROUPS:
        return []
    group: Any = get_command(import_module(GROUPS[path[0]][0]).app)
    return list(group.list_commands(typer.Context(group))) if isinstance(group, Group) else []
