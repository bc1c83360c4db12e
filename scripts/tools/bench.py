"""Measures whole commands as multiples of `python -I -c pass`: interleaved, medians, against a sandbox on loopback.

The age identity is bare and the admin key comes from the environment; `keys list` lists fifty keys.
With `migrate` it is migrations that are measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

BLNKCTL = str(Path(sys.executable).parent / "blnkctl")
BASELINE = [sys.executable, "-I", "-c", "pass"]
LEAST_RUNS = 21
KEYS = 50
BUDGETS = {"--version": 1.5, "--help": 7.0, "keys list": 12.0, "keys create": 20.0, "keys exec -- true": 12.0}


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Run a throwaway server and yield its ready line."""
    process = subprocess.Popen([BLNKCTL, "sandbox", "--fast"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def environment_for(server: dict[str, str], home: Path) -> dict[str, str]:
    """Return the environment of the commands."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "BLNKCTL_URL": server["url"],
        "BLNKCTL_ADMIN_KEY": server["admin_key"],
        "BLNKCTL_STORE": "age",
        "BLNKCTL_STORE_DIR": str(home / "store"),
        "BLNKCTL_STATE_DIR": str(home / "state"),
        "BLNKCTL_CONFIG_DIR": str(home / "config"),
    }


class Bench:
    """Runs commands in one environment and keeps their times."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._names = (f"bench-{number}" for number in count())

    def prepare(self) -> None:
        """Make the store and the fifty keys."""
        self.time([BLNKCTL, "store", "init", "--no-passphrase", "--quiet"])
        for number in range(KEYS):
            self.time(self._create(f"key-{number}", "acme"))

    def commands(self) -> dict[str, list[str]]:
        """Return one round of command lines, each with the label of its budget."""
        return {
            "--version": [BLNKCTL, "--version"],
            "--help": [BLNKCTL, "--help"],
            "keys list": [BLNKCTL, "keys", "list", "--owner", "acme"],
            "keys create": self._create(next(self._names), "other"),
            "keys exec -- true": [BLNKCTL, "keys", "exec", "acme/key-1", "--", "true"],
        }

    def _create(self, name: str, owner: str) -> list[str]:
        return [BLNKCTL, "keys", "create", name, "--owner", owner, "--scope", "ledgers:read", "--quiet"]

    def time(self, command: list[str]) -> float:
        """Return the seconds that a command took from start to end."""
        started = time.perf_counter()
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started


def measure(bench: Bench, runs: int) -> tuple[float, dict[str, float]]:
    """Return the baseline's median in seconds, and each command's median as a multiple of it."""
    baseline: list[float] = []
    times: dict[str, list[float]] = {label: [] for label in BUDGETS}
    for _ in range(runs):
        baseline.append(bench.time(BASELINE))
        for label, command in bench.commands().items():
            times[label].append(bench.time(command))
    base = statistics.median(baseline)
    return base, {label: statistics.median(taken) / base for label, taken in times.items()}


def main() -> int:
    """Print the table; the exit code tells whether every budget was kept."""
    if sys.argv[1:2] == ["migrate"]:
        from bench_migrate import MANY
        from bench_migrate import main as measure_migrations

        return measure_migrations(int(sys.argv[2]) if len(sys.argv) > 2 else MANY)
    runs = max(int(sys.argv[1]) if len(sys.argv) > 1 else LEAST_RUNS, LEAST_RUNS)
    with tempfile.TemporaryDirectory(prefix="blnkctl-bench-") as home, sandbox() as server:
        bench = Bench(environment_for(server, Path(home)))
        bench.prepare()
        base, multiples = measure(bench, runs)
    print(f"python -I -c pass: {base * 1000:.1f} ms (median of {runs}); as multiples of it:")
    for label, budget in BUDGETS.items():
        verdict = "" if multiples[label] <= budget else "  over budget"
        print(f"{label:<20}{multiples[label]:>6.1f}   budget {budget:>4.1f}{verdict}")
    return int(any(multiples[label] > budget for label, budget in BUDGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
