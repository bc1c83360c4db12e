"""`blnkctl sandbox`."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.arguments import child_command
from blnkctl.cli.completers import complete_core
from blnkctl.cli.options import application, command
from blnkctl.cli.run import Run
from blnkctl.domain.errors import BlnkctlError, UsageError
from blnkctl.domain.secret import secret_from_text
from blnkctl.sandbox import NEWEST, Sandbox, SandboxOptions, parse_rate_limit
from blnkctl.system.signals import Forwarder, Interrupted
from blnkctl.wiring import make_bare_store

app = application("Run a throwaway server.", "blnkctl sandbox")
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@command(
    app,
    "sandbox",
    """
    blnkctl sandbox -- bash      # a shell with a server and nothing to break
    blnkctl sandbox --core 0.11.6 --data rows.jsonl
    blnkctl sandbox --core 0.13.2 --load-csv keys.csv -- bash
    blnkctl sandbox --rate-limit 5:8 -- ./my-test
    """,
)
def sandbox(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="What to run with it.")] = None,
    core: Annotated[
        str, typer.Option("--core", metavar="VERSION", help="Behave as this Blnk Core.", autocompletion=complete_core)
    ] = NEWEST,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Listen here; 0 is any free port.")
    ] = 0,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Keep the keys, for another version to start on.")
    ] = None,
    load_csv: Annotated[
        str | None, typer.Option("--load-csv", metavar="FILE", help="Fill it with the keys of a database's export.")
    ] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", metavar="N", help="Answer in turn from N processes with a cache each.")
    ] = 1,
    rate_limit: Annotated[
        str | None, typer.Option("--rate-limit", metavar="RPS[:BURST]", help="Limit requests a second.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Secure mode off.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Hashes of the right shape without bcrypt's cost.")] = False,
) -> int:
    """Run a throwaway server with Blnk's authentication and /api-keys.

    Prints one line of JSON when it is ready ("url", "admin_key", "core") and serves until interrupted. With a
    COMMAND it runs that, with BLNKCTL_URL, BLNKCTL_ADMIN_KEY and a throwaway configuration, state and store, and
    exits as it does. BLNKCTL_SANDBOX_ADMIN_KEY sets the admin key.

    --load-csv takes an export without secrets, with the columns api_key_id, owner, name, scopes, expires_at,
    created_at, last_used_at, revoked_at and storage_scheme: the keys are there as on the server, and nobody can use
    them. Keys that --data has already stay as they are.

    Exit codes: the command's own, 126 it cannot be run, 127 not found; 1 the port is taken, 2 a bad option or export,
    129, 130 or 143 when told to end.
    """
    run = Run.of(ctx)
    child = child_command(run.arguments)
    if words and words != child:
        hint = "blnkctl sandbox [OPTIONS] -- COMMAND [ARGS]…"
        raise UsageError("The command to run must stand behind --.", code="no_dashes", hint=hint)
    server = _server(run, core, port, data, load_csv, replicas, rate_limit, insecure, fast)
    for note in server.notes:
        run.terminal.note(note)
    try:
        return _serve(server) if not child else _run_with(run, server, child)
    finally:
        run.signals.forget()


def _server(
    run: Run,
    core: str,
    port: int,
    data: str | None,
    load_csv: str | None,
    replicas: int,
    rate_limit: str | None,
    insecure: bool,
    fast: bool,
) -> Sandbox:
    given = run.environment.get("BLNKCTL_SANDBOX_ADMIN_KEY")
    try:
        options = SandboxOptions(
            core=core,
            port=port,
            admin_key=secret_from_text(given, "BLNKCTL_SANDBOX_ADMIN_KEY").reveal() if given else None,
            data=None if data is None else Path(data).expanduser().absolute(),
            load_csv=None if load_csv is None else Path(load_csv).expanduser(),
            replicas=replicas,
            rate_limit=None if rate_limit is None else parse_rate_limit(rate_limit),
            insecure=insecure,
            fast=fast,
        )
        server = Sandbox(options)
        server.start()
    except ValueError as problem:
        message = f"{str(problem).rstrip('.')}. Nothing was started."
        raise UsageError(message, code="bad_sandbox", hint="blnkctl sandbox --help") from None
    except OSError as problem:
        reason = problem.strerror or problem
        hint = "Give another --port or --data, or leave them out."
        raise BlnkctlError(f"The sandbox cannot start: {reason}.", code="sandbox_failed", hint=hint) from None
    return server


def _serve(server: Sandbox) -> int:
    try:
        ready = {"url": server.url, "admin_key": server.admin_key, "core": server.core}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        while True:
            signal.pause()
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        server.stop()


def _run_with(run: Run, server: Sandbox, child: list[str]) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="blnkctl-sandbox-") as directory:
            environment = _environment(run.environment, server, Path(directory))
            return _run_child(run, child, environment)
    finally:
        server.stop()


def _environment(environment: Mapping[str, str], server: Sandbox, directory: Path) -> dict[str, str]:
    """Return the child's environment: this server, and directories that are gone afterwards."""
    store = directory / "store"
    make_bare_store(store)
    kept = {name: value for name, value in environment.items() if not name.startswith("BLNKCTL_")}
    return kept | {
        "BLNKCTL_URL": server.url,
        "BLNKCTL_ADMIN_KEY": server.admin_key,
        "BLNKCTL_STORE": "age",
        "BLNKCTL_STORE_DIR": str(store),
        "BLNKCTL_CONFIG_DIR": str(directory / "config"),
        "BLNKCTL_STATE_DIR": str(directory / "state"),
    }


def _run_child(run: Run, child: list[str], environment: dict[str, str]) -> int:
    with Forwarder(_is_passed_on) as forwarder:
        try:
            process = subprocess.Popen(child, env=environment)  # noqa: S603 (the operator's own command)
        except FileNotFoundError:
            run.terminal.fail(UsageError(f"{child[0]}: command not found.", code="command_not_found"))
            return _NOT_FOUND
        except OSError as error:
            message = f"{child[0]} cannot be run: {error.strerror}."
            run.terminal.fail(UsageError(message, code="command_not_executable"))
            return _NOT_EXECUTABLE
        forwarder.started(process.send_signal)
        code = process.wait()
    return code if code >= 0 else 128 - code


def _is_passed_on(number: int) -> bool:
    """Tell whether a signal must be passed on: a Ctrl-C of the terminal reaches the child by itself."""
    return number != signal.SIGINT or not sys.stdin.isatty()
