"""The options that work everywhere after the root, and the classes that give them to every command and group."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer._click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from blnkctl.cli.completers import complete_context, complete_format
from blnkctl.cli.flags import FORMATS
from blnkctl.domain.errors import UsageError
from blnkctl.domain.names import escape_unsafe

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def global_options() -> list[TyperOption]:
    """Return new instances of the options that every command and group takes."""
    return [
        _option(
            "--context",
            help="Work on this context, whatever the environment says.",
            metavar="NAME",
            complete=lambda ctx, _words, _typed: complete_context(ctx),
        ),
        _option(
            "--output",
            "-o",
            help=f"Format: {', '.join(FORMATS)}.",
            metavar="FORMAT",
            complete=lambda _ctx, _words, _typed: complete_format(),
        ),
        _option("--yes", "-y", help="Answer yes to every confirmation."),
        _option("--no-input", help="Never ask anything."),
        _option("--quiet", "-q", help="No notes, no progress."),
        _option("--verbose", "-v", help="Tell each request."),
        _option("--debug", help="Tell each request, and show tracebacks."),
        _option("--timeout", help="Time limit of one request (default: 30s).", metavar="DURATION"),
        _option("--reason", help="Why; kept in the journal.", metavar="TEXT"),
    ]


def _option(
    *declarations: str, help: str, metavar: str | None = None, complete: Callable[..., Any] | None = None
) -> TyperOption:
    is_flag = metavar is None
    return TyperOption(
        param_decls=list(declarations),
        help=help,
        is_flag=is_flag,
        default=False if is_flag else None,
        metavar=metavar,
        type=None if is_flag else str,
        expose_value=False,
        callback=_take,
        autocompletion=complete,
    )


def _take(ctx: typer.Context, param: Any, value: Any) -> Any:
    """Record a global option that was given; the last one wins, wherever it stands."""
    if value not in (None, False):
        ctx.find_root().obj.flags.take(param.name, value)
    return value


class Command(TyperCommand):
    """A command with the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line's words: the arguments as they are named, without Typer's braces."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(str(argument.metavar) for argument in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, the command's own options and the global ones as three lists."""
        everywhere = {"help", *(option.name for option in global_options())}
        sections: dict[str, list[Any]] = {"Arguments": [], "Options": [], "Global options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections[_section(param, everywhere)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _section(param: Any, everywhere: set[str | None]) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    return "Global options" if param.name in everywhere else "Options"


class Group(TyperGroup):
    """A group with the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without a word, show the help: on standard error, as a command is missing."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise UsageError("No command is given.", code="no_command", hint=f"{ctx.command_path} COMMAND --help")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands alone: every command tells the global options."""
        self.format_commands(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Suggest the nearest name for a misspelt one."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise _no_such_command(args[0], known)
        return super().resolve_command(ctx, args)


def application(help: str, examples: str, *, cls: type[Group] = Group) -> typer.Typer:
    """Return a new group of commands."""
    return typer.Typer(
        cls=cls,
        help=help,
        epilog=_as_epilog(examples),
        context_settings=SETTINGS,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        subcommand_metavar="COMMAND [ARGS]...",
        options_metavar="[OPTIONS]",
    )


def command(
    app: typer.Typer, name: str, examples: str, *, before_examples: tuple[str, str] | None = None
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return the decorator that makes a function, whose docstring is the help, a command of a group.

    `before_examples`: a heading and lines that are printed as they are.
    """
    block = "" if before_examples is None else _verbatim(*before_examples)
    return app.command(name, cls=Command, epilog=block + _as_epilog(examples), context_settings=SETTINGS)


def _verbatim(heading: str, lines: str) -> str:
    shown = "\n".join(f"  {line}" for line in lines.strip("\n").splitlines())
    return f"\b\n{heading}\n{shown}\n\n".replace("\n  \n", "\n\n\b\n")


def _as_epilog(lines: str) -> str:
    """Return examples that are printed line by line (the control character keeps them from being wrapped)."""
    shown = "\n".join(f"  {line.strip()}" for line in lines.strip().splitlines())
    return f"\b\nExamples:\n{shown}"


class LazyGroup(Group):
    """A group that knows its commands by name and one line, and imports each one's module when it is called."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the table's order."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command's module and return the command, or None."""
        if cmd_name not in self.table:
            return None
        return get_command(import_module(self.table[cmd_name][0]).app)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Offer names and lines without importing anything, and options."""
        names = [CompletionItem(name, help=line) for name, (_, line) in self.table.items()]
        options = super(TyperGroup, self).shell_complete(ctx, incomplete)
        return [*(item for item in names if item.value.startswith(incomplete)), *options]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List names and lines without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])


def _no_such_command(word: str, known: Iterable[str]) -> UsageError:
    nearest = get_close_matches(word, list(known), n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Commands: {', '.join(known)}."
    return UsageError(f"There is no command {escape_unsafe(word)!r}.", code="no_such_command", hint=hint)
