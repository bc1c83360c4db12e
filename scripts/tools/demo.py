"""Shows blnkctl at work: the real program, throwaway servers, the age store; then looks for the secrets everywhere.

Everything happens in a temporary directory that is gone afterwards.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
DOES_NOT_VERIFY = 10
CALL = """\
blnkctl keys exec {key} -- python -c '
import http.client, os
server = http.client.HTTPConnection("127.0.0.1", {port})
server.request("GET", "/ledgers", headers={{"X-Blnk-Key": os.environ["BLNK_API_KEY"]}})
print("GET /ledgers:", server.getresponse().status)'"""

CALL_BY_ENV_FILE = """\
set -a; . ./{file}; python -c '
import http.client, os
server = http.client.HTTPConnection("127.0.0.1", {port})
server.request("GET", "/ledgers", headers={{"X-Blnk-Key": os.environ["BLNK_API_KEY"]}})
print("GET /ledgers:", server.getresponse().status)'"""


class Demo:
    """One showing: a shell whose commands are blnkctl's, and a memory of all that they printed."""

    def __init__(self, home: Path, url: str, admin_key: str) -> None:
        self.home = home
        self.url = url
        self.outputs: list[str] = []
        self.environment = clean_environment() | {
            "BLNKCTL_CONFIG_DIR": str(home / "config"),
            "BLNKCTL_STATE_DIR": str(home / "state"),
            "BLNKCTL_STORE_DIR": str(home / "store"),
            "BLNKCTL_OUTPUT": "table",
            "ADMIN_KEY": admin_key,
        }

    def type(self, line: str, *, expected: int = 0) -> None:
        """Show a command line, run it in a shell, show its output, and stop the demo if it ended otherwise."""
        print(f"\n$ {line}", flush=True)
        done = self.run(line)
        self.outputs.append(done.stdout)
        print(done.stdout, end="", flush=True)
        if done.returncode != expected:
            raise SystemExit(f"\nThe demo failed: that command ended with {done.returncode}, not {expected}.")

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a command line; standard output and standard error are mixed as on a terminal."""
        return subprocess.run(
            line,
            shell=True,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )

    def value(self, line: str) -> str:
        """Run a command line and return what it printed, unseen; it is not part of what is searched."""
        done = self.run(line)
        if done.returncode != 0:
            raise SystemExit(f"\nThe demo failed: {line}\n{done.stdout}")
        return done.stdout

    @property
    def key_id(self) -> str:
        """The id of the key, as it was last printed."""
        return str(re.findall(r"api_key_[0-9a-f-]{36}", "".join(self.outputs))[-1])

    @property
    def port(self) -> str:
        """The port of the server in use."""
        return self.url.rpartition(":")[2]

    def secrets(self) -> dict[str, str]:
        """Return the secrets of the keys of the context in use, by id, unseen."""
        held = json.loads(self.value("blnkctl keys list -o json"))["data"]
        return {key["id"]: self.value(f"blnkctl keys reveal {key['id']}") for key in held if key["stored"]}

    def files(self) -> list[Path]:
        """Return every file of configuration, state and store, and the plans; not the env files."""
        return sorted(path for path in self.home.rglob("*") if path.is_file() and path.suffix != ".env")


def main() -> int:
    """Run the demo and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="blnkctl-demo-") as directory:
        home = Path(directory, "home")
        home.mkdir()
        leaks = show(home, Path(directory, "rows"))
    print(f"\nDone in {time.monotonic() - started:.1f} s. Look around: .venv-demo/bin/blnkctl sandbox -- sh")
    return 1 if leaks else 0


def show(home: Path, rows: Path) -> int:
    """Show everything, and return how often a secret was found; `rows` is the database of the server that ages."""
    tell("A throwaway server with Blnk's authentication and /api-keys: blnkctl sandbox")
    with sandbox() as server:
        demo = Demo(home, server.url, server.admin_key)
        set_up(demo)
        live_a_life(demo)
        rotate(demo)
        secrets = demo.secrets()
    secrets |= outlive_upgrades(demo, rows)
    return prove(demo, secrets, [server.admin_key, demo.environment["ADMIN_KEY"]])


@dataclass(frozen=True)
class Server:
    """A sandbox that runs."""

    url: str
    admin_key: str

    @property
    def port(self) -> str:
        """Its port."""
        return self.url.rpartition(":")[2]


@contextmanager
def sandbox(*options: str, admin_key: str | None = None) -> Iterator[Server]:
    """Serve while the block runs."""
    environment = clean_environment() | ({} if admin_key is None else {"BLNKCTL_SANDBOX_ADMIN_KEY": admin_key})
    process = subprocess.Popen(
        [str(BIN / "blnkctl"), "sandbox", *options], env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("The demo failed: the sandbox did not start.")
        ready = json.loads(line)
        print(f"It behaves as Blnk Core {ready['core']} and listens on {ready['url']}.", flush=True)
        yield Server(ready["url"], ready["admin_key"])
    finally:
        process.terminate()
        process.wait()


def set_up(demo: Demo) -> None:
    """Make the store and the context."""
    tell("Once: a store that encrypts, and a name for the server. The admin key goes into the store.")
    demo.type("blnkctl store init --no-passphrase")
    adding = f"blnkctl context add demo --url {demo.url} --store age --owner acme --admin-key-stdin"
    demo.type(f'printf %s "$ADMIN_KEY" | {adding}')
    demo.type("blnkctl doctor")


def live_a_life(demo: Demo) -> None:
    """Create a key, use it, revoke it."""
    tell("A key: from the server straight into the store, read back and compared, never shown.")
    demo.type("blnkctl keys create billing --scope ledgers:read,balances:read --expires 90d")
    demo.type("blnkctl keys list")
    demo.type("blnkctl keys verify acme/billing")
    tell("Its use: the program gets it in its environment.")
    demo.type(CALL.format(key="acme/billing", port=demo.port))
    tell("Its end: asked again, the server refuses it.")
    demo.type("blnkctl keys revoke acme/billing --yes")
    demo.type("blnkctl keys list")
    demo.type(f"blnkctl keys verify {demo.key_id}", expected=DOES_NOT_VERIFY)
    demo.type(CALL.format(key=demo.key_id, port=demo.port))


def rotate(demo: Demo) -> None:
    """Rotate a key that a program reads from an env file."""
    tell("A key for a program that reads an env file, and its rotation: delivered anew, the old one goes afterwards.")
    demo.type("blnkctl keys create payouts --scope ledgers:read --to env-file:payouts.env")
    demo.type("blnkctl keys rotate acme/payouts --grace 1s --yes")
    demo.type(CALL_BY_ENV_FILE.format(file="payouts.env", port=demo.port))
    demo.type("sleep 1; blnkctl keys finish acme/payouts --yes")
    demo.type("blnkctl keys list --name payouts")


def outlive_upgrades(demo: Demo, rows: Path) -> dict[str, str]:
    """Carry keys over two upgrades that kill them; return their secrets."""
    tell("Another server, with an old Core. Its keys are to outlive two upgrades that would kill them.")
    kept = ["--data", str(rows), "--fast"]
    with sandbox("--core", "0.11.6", *kept) as server:
        use_aging_server(demo, server)
    kept += ["--port", server.port]
    tell("Upgraded to Core 0.12.0, which cannot accept what older ones made. The same server, the same rows:")
    with sandbox("--core", "0.12.0", *kept, admin_key=server.admin_key):
        demo.type("blnkctl keys list")
        demo.type("blnkctl migrate plan --all-owners --out to-0.12.json")
        migrate(demo, "to-0.12.json")
        tell("The next upgrade is planned before it is done.")
        demo.type("blnkctl migrate plan --all-owners --for-core 0.13.2 --out to-0.13.json")
    tell("Upgraded to Core 0.13.2, which cannot accept those either:")
    with sandbox("--core", "0.13.2", *kept, admin_key=server.admin_key):
        migrate(demo, "to-0.13.json")
        demo.type("blnkctl keys list")
        demo.type("blnkctl migrate report --plan to-0.13.json")
        demo.type(CALL_BY_ENV_FILE.format(file="ci.env", port=server.port))
        return demo.secrets()


def use_aging_server(demo: Demo, server: Server) -> None:
    """Make keys on a server that can neither list nor revoke them."""
    demo.environment["ADMIN_KEY"] = server.admin_key
    demo.url = server.url
    adding = f"blnkctl context add ledger --url {server.url} --store age --owner acme --admin-key-stdin"
    demo.type(f'printf %s "$ADMIN_KEY" | {adding}')
    demo.type("blnkctl context use ledger")
    demo.type("blnkctl keys create ci --scope ledgers:read --to env-file:ci.env")
    demo.type("blnkctl keys create mobile --scope 'transactions:*'")


def migrate(demo: Demo, plan: str) -> None:
    """Go through the commands of a migration."""
    demo.type(f"blnkctl migrate run {plan} --yes")
    demo.type(f"blnkctl migrate verify --plan {plan}")
    demo.type(f"sleep 1; blnkctl migrate finish --plan {plan} --after 1s --yes")


def prove(demo: Demo, secrets: Mapping[str, str], admin_keys: list[str]) -> int:
    """Look for the secrets in all that was printed and in every file; return how often they were found."""
    tell("Was a secret ever to be seen?")
    print(f"\nThe secrets of {len(secrets)} keys were revealed into a variable, for the search.")
    texts = [output.encode() for output in demo.outputs]
    contents = {path: path.read_bytes() for path in demo.files()}
    print(f"Searched: {len(texts)} outputs ({sum(map(len, texts))} bytes) and {len(contents)} files:")
    for path, content in contents.items():
        print(f"  {len(content):6} bytes  {shorter(path.relative_to(demo.home))}")
    print("Left out: payouts.env and ci.env, which are where those keys were asked to be.")
    everything = [*texts, *contents.values()]
    leaks = sum(count(secret, everything) for secret in [*secrets.values(), *admin_keys])
    print(f"Found a key's secret or an admin key in clear: {leaks} times.")
    ids = sum(count(key_id, everything) for key_id in secrets)
    print(f"Found the ids of the keys, to show that the search finds: {ids} times.")
    return leaks


def shorter(path: Path) -> Path:
    """Return the path of a file as its first and its last part, if there are more."""
    return path if len(path.parts) < 4 else Path(*path.parts[:2], "…", path.name)


def count(value: str, texts: list[bytes]) -> int:
    """Return how often a value occurs."""
    return sum(text.count(value.encode()) for text in texts)


def clean_environment() -> dict[str, str]:
    """Return an environment without anybody's own blnkctl; bytecode is kept, within the virtual environment."""
    foreign = ("BLNKCTL_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "PYTHONPYCACHEPREFIX": str(BIN.parent / "pycache"), "NO_COLOR": "1"}


def tell(text: str) -> None:
    """Say what comes next."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
