"""Measures migrations against the server's own ceiling, in the same run: `scripts/bench migrate [KEYS]`.

The ceiling of a server with few workers is what a bare client (http.client, eight threads, nothing stored) gets out
of it with the same two requests a key. That of a limiter is its burst and its rate. Memory is the resident size of
`migrate run` for 2,000 and for KEYS keys of one owner (20,000 unless named), and of a list of 100,000.
"""

import csv
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from bench_server import ADMIN_KEY

BLNKCTL = str(Path(sys.executable).parent / "blnkctl")
SERVER = str(Path(__file__).with_name("bench_server.py"))
EXPORT = ("api_key_id", "owner", "name", "scopes", "expires_at", "created_at", "last_used_at", "revoked_at")
LIMIT, BURST = 50, 100
FEW, MANY, LISTED = 2_000, 20_000, 100_000
OWNER = "acme"


@contextmanager
def serving(home: Path, keys: int, *options: str) -> Iterator[str]:
    """Run a server that has so many dead keys of one owner, and yield its URL."""
    path = home / f"keys-{uuid.uuid4()}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*EXPORT, "storage_scheme"))
        for number in range(keys):
            times = ("2100-06-30T00:00:00.123456Z", "2026-01-01T00:00:00Z", "", "")
            row = (f"api_key_{uuid.uuid4()}", OWNER, f"key-{number}", '["ledgers:read"]', *times, "sha256")
            writer.writerow(row)
    command = [sys.executable, SERVER, str(path), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def migrate(home: Path, url: str) -> int:
    """Plan and run a migration; return the resident size of the run, in KiB."""
    environment = environment_for(home / f"home-{uuid.uuid4()}", url)
    run([BLNKCTL, "store", "init", "--no-passphrase", "--quiet"], environment)
    plan = str(home / "plan.json")
    run([BLNKCTL, "migrate", "plan", "--owner", OWNER, "--out", plan, "--quiet"], environment)
    return run([BLNKCTL, "migrate", "run", plan, "--yes", "--quiet", "-o", "ids"], environment)


def environment_for(home: Path, url: str) -> dict[str, str]:
    """Return the environment of the commands."""
    directories = {f"BLNKCTL_{name.upper()}_DIR": str(home / name) for name in ("store", "state", "config")}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "BLNKCTL_URL": url,
        "BLNKCTL_ADMIN_KEY": ADMIN_KEY,
        "BLNKCTL_STORE": "age",
        **directories,
    }


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command to its end; return its resident size in KiB."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss


def told(url: str) -> dict[str, list[float]]:
    """Return what the server counted."""
    with urllib.request.urlopen(f"{url}/bench") as answer:
        document: dict[str, list[float]] = json.load(answer)
    return document


# --- workers ------------------------------------------------------------------------------------


def bare_client(url: str, keys: int) -> None:
    """Make keys and try each, with as little code as there can be."""
    numbers = count()
    host = url.removeprefix("http://")

    def work() -> None:
        connection = http.client.HTTPConnection(host)
        while (number := next(numbers)) < keys:
            wanted = {"name": f"bare-{number}", "owner": OWNER, "scopes": ["ledgers:read"]}
            body = json.dumps(wanted | {"expires_at": "2100-06-30T00:00:00Z"})
            connection.request("POST", "/api-keys", body, {"X-Blnk-Key": ADMIN_KEY})
            key = json.loads(connection.getresponse().read())["key"]
            connection.request("GET", "/probe", headers={"X-Blnk-Key": key})
            connection.getresponse().read()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rate(moments: list[float]) -> float:
    """Return events a second, without the first and last few: starting and stopping is no rate."""
    inner = sorted(moments)[5:-8]
    return (len(inner) - 1) / (inner[-1] - inner[0])


def workers_ratio(home: Path, keys: int = 300) -> tuple[float, float]:
    """Return the keys a second that blnkctl makes, and what the bare client does."""
    with serving(home, keys, "--workers", "2") as url:
        migrate(home, url)
        ours = rate(told(url)["created"])
    with serving(home, 0, "--workers", "2") as url:
        bare_client(url, keys)
        return ours, rate(told(url)["created"])


# --- limiter ------------------------------------------------------------------------------------


def limiter_ratio(home: Path, *options: str, keys: int = 1_500) -> tuple[float, float]:
    """Return which share of what a limiter lets through was used, and which share of the answers were 429."""
    with serving(home, keys, "--limit", f"{LIMIT}:{BURST}", *options) as url:
        migrate(home, url)
        counted = told(url)
    first, last = min(counted["created"]), max(counted["created"])
    used = sum(first <= moment <= last for moment in counted["let_through"])
    refused = float(counted["refused"])  # type: ignore[arg-type]
    return used / (BURST + LIMIT * (last - first)), refused / (used + refused)


# --- memory -------------------------------------------------------------------------------------


def memory(home: Path, keys: int) -> float:
    """Return the resident size of a migration's run, in MiB."""
    with serving(home, keys) as url:
        return migrate(home, url) / 1024


def memory_of_a_list(home: Path, keys: int) -> float:
    """Return the resident size of a list, in MiB."""
    with serving(home, keys) as url:
        command = [BLNKCTL, "keys", "list", "--owner", OWNER, "-o", "ids"]
        return run(command, environment_for(home / "lists", url)) / 1024


def main(many: int) -> int:
    """Print the figures; the exit code tells whether each is within its bounds."""
    verdicts: list[bool] = []

    def tell(what: str, figure: str, is_kept: bool, bound: str) -> None:
        verdicts.append(is_kept)
        print(f"{what:<52}{figure:>14}   {bound}{'' if is_kept else '  NOT KEPT'}", flush=True)

    with tempfile.TemporaryDirectory(prefix="blnkctl-bench-") as name:
        home = Path(name)
        ours, bare = workers_ratio(home)
        tell(
            f"of {bare:.1f} keys/s that two workers of 50 ms can do",
            f"{ours / bare:.1%}",
            ours >= 0.98 * bare,
            "98 %",
        )
        for label, least, options in (("with", 0.99, ()), ("without", 0.97, ("--strip",))):
            share, refused = limiter_ratio(home, *options)
            what = f"of a limit of {LIMIT}/s {label} its headers"
            tell(what, f"{share:.1%}", share >= least, f"{least:.0%}")
            tell("  answers that were 429", f"{refused:.2%}", refused < 0.02, "under 2 %")
        few, lots = memory(home, FEW), memory(home, many)
        tell(f"resident size, {FEW} keys", f"{few:.1f} MiB", few <= 80, "80 MiB")
        tell(f"resident size, {many} keys", f"{lots:.1f} MiB", lots <= 80, "80 MiB")
        tell("  more than with few", f"{lots / few - 1:.1%}", lots <= 1.1 * few, "10 %")
        listed = memory_of_a_list(home, LISTED)
        tell(f"resident size of a list of {LISTED} keys", f"{listed:.1f} MiB", listed <= 150, "150 MiB")
    return int(not all(verdicts))
