"""`blnkctl context …`."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_context, complete_owner, complete_store
from blnkctl.cli.inputs import read_secret, read_text
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.terminal import Confirmer
from blnkctl.domain.contexts import (
    DEFAULT_STORE,
    NO_STORE,
    AdminKeySource,
    Configuration,
    Context,
    check_context_name,
    check_keeps_admin_key,
    check_store_kind,
    check_transport,
)
from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.errors import BlnkctlError, StoreUnavailable, UsageError
from blnkctl.domain.grace import DEFAULT_GRACE, format_grace, parse_grace
from blnkctl.domain.names import check_typed_name, escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.usecases.contexts import CheckServer, keep_admin_key, needs_stored_key
from blnkctl.usecases.targets import ADMIN_KEY_VARIABLES, is_set, no_context, no_such_context

app = application(
    "Name servers, and choose the one in use. A context is a server's URL, where its admin key is, which store keeps"
    " its secrets, and defaults. The file that holds them never holds a secret.",
    """
    blnkctl context add prod --url https://ledger.example.com
    blnkctl context set prod --owner acme --protected
    blnkctl context use prod
    """,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context's name.")]
KnownName = Annotated[
    str, typer.Argument(metavar="NAME", help="The context's name.", autocompletion=complete_context)
]
OptionalName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The one in use unless given.", autocompletion=complete_context),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The server.")]
OwnerList = Annotated[
    list[str] | None,
    typer.Option("--owner", metavar="O", help="A default owner (repeatable).", autocompletion=complete_owner),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="STORE",
        help="Where secrets are kept: os (the OS keyring, unless you say otherwise), age, or none (in their sinks).",
        autocompletion=complete_store,
    ),
]
CaFile = Annotated[str | None, typer.Option("--ca-file", metavar="FILE", help="Trust this authority, and no other.")]
AllowHttp = Annotated[
    bool | None, typer.Option("--allow-http/--no-allow-http", help="Plain http beyond this machine.")
]
Protected = Annotated[bool | None, typer.Option("--protected/--not-protected", help="Changes want the name typed.")]
Grace = Annotated[
    str | None,
    typer.Option(
        "--grace", metavar="D", help="How long an old key works on beside its successor: 12h, 7d (24h unless set)."
    ),
]
KeyCommand = Annotated[
    str | None, typer.Option("--admin-key-command", metavar="CMD", help="The key is what this program prints.")
]
KeyFile = Annotated[str | None, typer.Option("--admin-key-file", metavar="FILE", help="The key is in this file.")]
KeyStdin = Annotated[bool, typer.Option("--admin-key-stdin", help="Read the key from standard input, and store it.")]


@command(
    app,
    "add",
    """
    blnkctl context add prod --url https://ledger.example.com
    blnkctl context add prod --url https://ledger.example.com --store age
    pass blnk | blnkctl context add ci --url https://c.example --admin-key-stdin
    blnkctl context add ci --url https://c.example --admin-key-command 'pass b'
    """,
)
def add(
    ctx: typer.Context,
    name: Name,
    url: Url = None,
    owner: OwnerList = None,
    store: Store = None,
    ca_file: CaFile = None,
    allow_http: AllowHttp = None,
    protected: Protected = None,
    grace: Grace = None,
    admin_key_command: KeyCommand = None,
    admin_key_file: KeyFile = None,
    admin_key_stdin: KeyStdin = False,
) -> int:
    """Name a server. It is reached, and its admin key tried, before anything is kept.

    The key is asked for unseen and put into the store, unless it stays where --admin-key-command or --admin-key-file
    find it. The first context is the one in use.

    Exit codes: 0, 2 a bad name or URL, 4 the key was refused or secure mode is off, 5 the store cannot be used, 9 not
    reached.
    """
    run = Run.of(ctx)
    check_context_name(name)
    configuration = run.wiring.configuration
    if configuration.find(name) is not None:
        hint = f"Change it with: blnkctl context set {name}"
        raise UsageError(f"There is a context {name} already.", code="context_exists", hint=hint)
    if url is None:
        hint = "Example: --url https://ledger.example.com"
        raise UsageError("The server's --url is missing; nothing was kept.", code="no_url", hint=hint)
    source = _source(admin_key_command, admin_key_file, admin_key_stdin)
    named_store = check_store_kind(store or run.environment.get("BLNKCTL_STORE") or DEFAULT_STORE)
    _try_store(run, named_store, is_needed=source == AdminKeySource())
    context = Context(
        name=name,
        url=parse_server_url(url),
        store=named_store,
        owners=_owners(owner),
        admin_key=source,
        ca_file=_absolute(ca_file),
        allow_http=bool(allow_http),
        protected=bool(protected),
        grace=DEFAULT_GRACE if grace is None else parse_grace(grace, flag="--grace"),
    )
    _check_and_save(run, context, admin_key_stdin, make_current=configuration.current is None)
    return run.finish(Result([_record(context, run.wiring.configuration_file.load())], is_list=False, is_sheet=True))


@command(app, "set", "blnkctl context set prod --owner acme --owner globex")
def set_(
    ctx: typer.Context,
    name: KnownName,
    url: Url = None,
    owner: OwnerList = None,
    store: Store = None,
    ca_file: CaFile = None,
    allow_http: AllowHttp = None,
    protected: Protected = None,
    grace: Grace = None,
    admin_key_command: KeyCommand = None,
    admin_key_file: KeyFile = None,
    admin_key_stdin: KeyStdin = False,
) -> int:
    """Change a context. A new --url asks for the admin key again: a key is never sent to another server.

    Exit codes: 0, 2 a bad value, 4 the key was refused or secure mode is off, 5 the store failed, 7 no such context,
    9 not reached.
    """
    run = Run.of(ctx)
    old = _find(run, name)
    new_key = bool(admin_key_command or admin_key_file or admin_key_stdin)
    changed = replace(
        old,
        url=old.url if url is None else parse_server_url(url),
        owners=old.owners if owner is None else _owners(owner),
        store=old.store if store is None else check_store_kind(store),
        ca_file=old.ca_file if ca_file is None else _absolute(ca_file),
        allow_http=old.allow_http if allow_http is None else allow_http,
        protected=old.protected if protected is None else protected,
        grace=old.grace if grace is None else parse_grace(grace, flag="--grace"),
        admin_key=old.admin_key,
    )
    if new_key or changed.url != old.url:
        changed = replace(changed, admin_key=_source(admin_key_command, admin_key_file, admin_key_stdin))
        _check_and_save(run, changed, admin_key_stdin, make_current=False)
        _forget_admin_key(run, old)
    else:
        _check_transport(run, changed)
        _check_admin_key_is_in(run, changed, old)
        run.wiring.configuration_file.save_context(changed, make_current=False)
    return run.finish(Result([_record(changed, run.wiring.configuration_file.load())], is_list=False, is_sheet=True))


@command(app, "list", "blnkctl context list")
def list_contexts(ctx: typer.Context) -> int:
    """List the contexts.

    Exit codes: 0, also where there is none, 3 the configuration cannot be read.
    """
    run = Run.of(ctx)
    configuration = _configuration(run)
    records = [_record(context, configuration) for context in configuration.contexts]
    return run.finish(Result(records, when_empty="There is none yet: blnkctl context add NAME --url URL"))


@command(app, "use", "blnkctl context use prod")
def use(ctx: typer.Context, name: KnownName) -> int:
    """Make a context the one in use.

    Exit codes: 0, 3 the configuration cannot be written, 7 no such context.
    """
    run = Run.of(ctx)
    context = _find(run, name)
    run.wiring.configuration_file.use_context(name)
    run.terminal.note(f"In use: {name} ({context.url})")
    return run.done()


@command(app, "show", "blnkctl context show prod -o json")
def show(ctx: typer.Context, name: OptionalName = None) -> int:
    """Show a context, without its key.

    Exit codes: 0, 3 no context is in use, 7 no such context.
    """
    run = Run.of(ctx)
    return run.finish(Result([_record(_chosen(run, name), _configuration(run))], is_list=False, is_sheet=True))


@command(app, "rename", "blnkctl context rename prod production")
def rename(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name now.", autocompletion=complete_context)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name to be.")],
) -> int:
    """Rename a context.

    Exit codes: 0, 2 the new name is bad or taken, 7 no such context.
    """
    run = Run.of(ctx)
    _find(run, old)
    if run.wiring.configuration.find(check_context_name(new)) is not None:
        hint = f"Choose another name, or remove that one: blnkctl context remove {new}"
        raise UsageError(f"There is a context {new} already.", code="context_exists", hint=hint)
    run.wiring.configuration_file.rename_context(old, new)
    run.terminal.note(f"{old} is now {new}.")
    return run.done()


@command(app, "remove", "blnkctl context remove old-staging")
def remove(ctx: typer.Context, name: KnownName) -> int:
    """Remove a context, and its admin key if no other context uses that server. Stored keys stay.

    Exit codes: 0, 7 no such context, 11 not confirmed.
    """
    run = Run.of(ctx)
    context = _find(run, name)
    confirmer = Confirmer(run.terminal, name if context.protected else None, run.flags.context == name)
    confirmer.approve(f"Remove the context {name} ({context.url})?")
    run.wiring.configuration_file.remove_context(name)
    _forget_admin_key(run, context)
    run.terminal.note(f"{name} is removed. Keys of {context.url} that are in the store stay there.")
    return run.done()


@command(app, "export", "blnkctl context export prod > prod.toml")
def export(ctx: typer.Context, name: OptionalName = None) -> int:
    """Print contexts as TOML, without secrets: one, or all of them.

    Exit codes: 0, 7 no such context.
    """
    run = Run.of(ctx)
    chosen = _configuration(run).contexts if name is None else (_find(run, name),)
    exported = run.wiring.configuration_file.export(chosen)
    if run.output.chosen == "json":
        return run.finish(Result([{"toml": exported}], is_list=False))
    run.output.line(exported, end="")
    return 0


@command(app, "import", "blnkctl context import prod.toml")
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="TOML from `context export`; - is standard input.")],
) -> int:
    """Take contexts from a file. Keys that were in a store do not travel: set them again.

    Exit codes: 0, 2 the file is none or a name is taken, 11 not confirmed.
    """
    run = Run.of(ctx)
    taken = run.wiring.configuration_file.parse(read_text(file if file == "-" else Path(file)), file).contexts
    known = run.wiring.configuration
    for context in taken:
        if known.find(context.name) is not None:
            hint = f"Rename or remove it first: blnkctl context rename {context.name} NEW"
            raise UsageError(f"There is a context {context.name} already.", code="context_exists", hint=hint)
        _confirm_source(run, context, known)
    if not taken:
        run.terminal.note("It holds no contexts.")
    for context in taken:
        run.wiring.configuration_file.save_context(context, make_current=False)
        run.terminal.note(f"Taken: {context.name} ({context.url})")
        if context.admin_key == AdminKeySource():
            run.terminal.note(
                f"{context.name} has no admin key yet: blnkctl context set {context.name} --admin-key-stdin"
            )
    return run.done()


def _confirm_source(run: Run, context: Context, known: Configuration) -> None:
    """Ask about a file's word on where the key is: it would run a program, or send a file's content to its URL."""
    source = context.admin_key
    if source.command is not None:
        shown = escape_unsafe(source.command)
        Confirmer(run.terminal).approve(f"{context.name} runs `{shown}` whenever it needs its key. Take it?")
    if source == AdminKeySource() and needs_stored_key(context.url, context.store, known.contexts):
        trust = "" if context.ca_file is None else f", trusting {escape_unsafe(context.ca_file)}"
        Confirmer(run.terminal).approve(
            f"{context.name} uses the admin key stored for {context.url}{trust}. Take it?"
        )
    if source.file is not None:
        question = (
            f"{context.name} sends what is in {escape_unsafe(source.file)} to {context.url} as its key. Take it?"
        )
        Confirmer(run.terminal).approve(question)


def _check_and_save(run: Run, context: Context, from_stdin: bool, *, make_current: bool) -> None:
    """Try server and key; keep the key, then the context. What fails leaves everything as it was."""
    wiring = run.wiring
    _check_transport(run, context)
    run.terminal.note(f"Target: {context.name} ({context.url})")
    secret = _typed_key(run, context, from_stdin)
    ca_file = run.environment.get("BLNKCTL_CA_FILE") or context.ca_file
    server = wiring.connect(context.url, ca_file, _fetcher(run, context, secret))
    try:
        CheckServer(server, run.terminal).run()
        kept = None
        if secret is not None:
            kept = keep_admin_key(wiring.open_store(context.store), server, secret, f"canary-{secrets.token_hex(8)}")
    finally:
        server.close()
    try:
        wiring.configuration_file.save_context(context, make_current=make_current)
    except BlnkctlError:
        if kept is not None:
            kept.undo()
        raise


def _try_store(run: Run, kind: str, *, is_needed: bool) -> None:
    """Meet a store that is not there before the key is asked for; one that only later keys need is told."""
    if kind == NO_STORE:
        return
    try:
        with run.wiring.open_store(kind).writing():
            pass
    except StoreUnavailable as problem:
        if is_needed:
            raise
        run.terminal.warn(f"{problem.message} Keys cannot be created until that is mended. {problem.hint or ''}")


def _check_admin_key_is_in(run: Run, changed: Context, old: Context) -> None:
    """A context given another store would look for its admin key there."""
    is_moved = (changed.store or DEFAULT_STORE) != (old.store or DEFAULT_STORE)
    if not is_moved or changed.admin_key != AdminKeySource():
        return
    check_keeps_admin_key(changed.store, changed.name)
    if run.wiring.open_store(changed.store).get(EntryName(changed.url, ADMIN)) is None:
        raise UsageError(
            f"The admin key of {changed.url} is not in the {changed.store} store; nothing was changed.",
            code="admin_key_elsewhere",
            hint=f"Move it, with the keys: blnkctl store move --to {changed.store} --context {changed.name}."
            " Or give it anew: --admin-key-stdin",
        )


def _typed_key(run: Run, context: Context, from_stdin: bool) -> Secret | None:
    """Return a key that is to be stored, None where it stays in a file or with a command."""
    if _is_in_environment_alone(run, context) and not from_stdin:
        return None
    if context.admin_key == AdminKeySource():
        check_keeps_admin_key(context.store, context.name)
    if from_stdin:
        return read_secret()
    if context.admin_key != AdminKeySource():
        return None
    secret = run.terminal.ask_secret(f"Admin key of {context.url}: ")
    if secret is None:
        raise UsageError(
            "The admin key is missing, and nobody is here to type it.",
            code="no_admin_key",
            hint="Give --admin-key-stdin, --admin-key-file FILE or --admin-key-command CMD.",
        )
    return secret


def _fetcher(run: Run, context: Context, secret: Secret | None) -> Callable[[], Secret]:
    if secret is not None:
        return lambda: secret
    if _is_in_environment_alone(run, context):
        return lambda: run.wiring.admin_key_of_environment(context.url)
    return lambda: run.wiring.read_admin_key(context.admin_key, context.url, context.store, context.name)


def _is_in_environment_alone(run: Run, context: Context) -> bool:
    """Tell whether a context without a store gets its admin key from the environment, now as ever."""
    is_given = any(run.environment.get(name) for name in ADMIN_KEY_VARIABLES)
    return context.store == NO_STORE and context.admin_key == AdminKeySource() and is_given


def _forget_admin_key(run: Run, context: Context) -> None:
    """Delete the stored admin key of what was a context, unless one that is left takes it from there too."""
    is_stored = context.admin_key == AdminKeySource() and context.store != NO_STORE
    if not is_stored or needs_stored_key(context.url, context.store, run.wiring.configuration_file.load().contexts):
        return
    try:
        run.wiring.open_store(context.store).delete(EntryName(context.url, ADMIN))
    except BlnkctlError as problem:
        run.terminal.warn(f"Its admin key may still be in the store: {problem.message}")


def _check_transport(run: Run, context: Context) -> None:
    allow_http = context.allow_http or is_set(run.environment, "BLNKCTL_ALLOW_HTTP")
    check_transport(context.url, allow_http=allow_http)


def _source(command: str | None, file: str | None, from_stdin: bool) -> AdminKeySource:
    if sum((command is not None, file is not None, from_stdin)) > 1:
        raise UsageError(
            "The admin key has two sources; nothing was kept.",
            code="contradiction",
            hint="Give one of --admin-key-command, --admin-key-file, --admin-key-stdin.",
        )
    return AdminKeySource(command, _absolute(file))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _owners(typed: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_typed_name(owner, "owner") for owner in typed or ()))


def _configuration(run: Run) -> Configuration:
    configuration = run.wiring.configuration
    run.warn_of_unknown_settings()
    return configuration


def _find(run: Run, name: str) -> Context:
    configuration = _configuration(run)
    context = configuration.find(name)
    if context is None:
        raise no_such_context(name, configuration)
    return context


def _chosen(run: Run, name: str | None) -> Context:
    """Return the context named, else the one that a command would use."""
    in_use = name or run.flags.context or run.environment.get("BLNKCTL_CONTEXT") or run.wiring.configuration.current
    if in_use is None:
        raise no_context(run.wiring.configuration)
    return _find(run, in_use)


def _record(context: Context, configuration: Configuration) -> dict[str, object]:
    return {
        "name": context.name,
        "url": str(context.url),
        "store": context.store or DEFAULT_STORE,
        "owners": list(context.owners),
        "protected": context.protected,
        "grace": format_grace(context.grace),
        "current": configuration.current == context.name,
    }
