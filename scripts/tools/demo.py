"""Shows blnkctl at work: the real program, a throwaway server, the age store; then looks for the secret everywhere.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
DOES_NOT_VERIFY = 10
CALL = """\
blnkctl keys exec {key} -- python -c '
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

    def files(self) -> list[Path]:
        """Return every file of configuration, state and store."""
        return sorted(path for path in self.home.rglob("*") if path.is_file())


def main() -> int:
    """Run the demo and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="blnkctl-demo-") as directory, sandbox() as (url, admin_key):
        demo = Demo(Path(directory), url, admin_key)
        set_up(demo)
        live_a_life(demo)
        leaks = prove(demo, admin_key)
    print(f"\nDone in {time.monotonic() - started:.1f} s. Look around: .venv-demo/bin/blnkctl sandbox -- sh")
    return 1 if leaks else 0


@contextmanager
def sandbox() -> Iterator[tuple[str, str]]:
    """Serve while the block runs; yield the server's URL and admin key."""
    tell("A throwaway server with Blnk's authentication and /api-keys: blnkctl sandbox")
    process = subprocess.Popen(
        [str(BIN / "blnkctl"), "sandbox"], env=clean_environment(), stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("The demo failed: the sandbox did not start.")
        ready = json.loads(line)
        print(f"It behaves as Blnk Core {ready['core']} and listens on {ready['url']}.", flush=True)
        yield ready["url"], ready["admin_key"]
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
    port = demo.url.rpartition(":")[2]
    demo.type(CALL.format(key="acme/billing", port=port))
    tell("Its end: asked again, the server refuses it.")
    demo.type("blnkctl keys revoke acme/billing --yes")
    demo.type("blnkctl keys list")
    demo.type(f"blnkctl keys verify {demo.key_id}", expected=DOES_NOT_VERIFY)
    demo.type(CALL.format(key=demo.key_id, port=port))


def prove(demo: Demo, admin_key: str) -> int:
    """Look for the secrets in all that was printed and in every file; return how often they were found."""
    tell("Was the secret ever to be seen?")
    key_id = demo.key_id
    print(f"\n$ secret=$(blnkctl keys reveal {key_id})    # into a variable, for the search")
    secret = demo.value(f"blnkctl keys reveal {key_id}")
    texts = [output.encode() for output in demo.outputs]
    contents = {path: path.read_bytes() for path in demo.files()}
    print(f"Searched: {len(texts)} outputs ({sum(map(len, texts))} bytes) and {len(contents)} files:")
    for path, content in contents.items():
        print(f"  {len(content):6} bytes  {path.relative_to(demo.home)}")
    everything = [*texts, *contents.values()]
    leaks = 0
    for what, value in (("the key's secret", secret), ("the admin key", admin_key)):
        found = count(value, everything)
        leaks += found
        print(f"Found {what} ({len(value)} characters) in clear: {found} times.")
    print(f"Found the key's id, to show that the search finds: {count(key_id, everything)} times.")
    return leaks


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
