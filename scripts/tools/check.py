"""Runs every check of the project, says which failed, and exits with 1 if one did. Arguments go to pytest."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROGRAMS = ROOT / "tests" / "programs.txt"


def main() -> int:
    """Run the checks one after another, all of them whatever the first ones said."""
    missing = missing_programs()
    tell_missing(missing)
    if missing and os.environ.get("CI"):
        return 1
    failed = [title for title, command in checks(sys.argv[1:]) if not passes(title, command)]
    print(f"\nFailed: {', '.join(failed)}." if failed else "\nEvery check passed.")
    return 1 if failed else 0


def checks(for_pytest: list[str]) -> list[tuple[str, list[str]]]:
    """Return each check's title and command."""
    return [
        ("lint", ["ruff", "check"]),
        ("format", ["ruff", "format", "--check"]),
        ("types", ["mypy"]),
        ("layers", ["lint-imports"]),
        ("tests", ["pytest", "-n", "2", *for_pytest]),
    ]


def passes(title: str, command: list[str]) -> bool:
    """Run one check from the root of the checkout, showing its output, and tell whether it passed."""
    print(f"\n== {title}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment(), check=False)
    outcome = "passed" if done.returncode == 0 else f"failed (exit code {done.returncode})"
    print(f"== {title} {outcome} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def environment() -> dict[str, str]:
    """Return the environment of the checks: the tools first on PATH, `sh` surely on it, nobody's own blnkctl."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLNKCTL_") or "_TEST_" in name}
    return kept | {"PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", ""), os.defpath])}


def missing_programs() -> dict[str, str]:
    """Return the programs that some tests need and this machine lacks, each with its Debian package."""
    path = environment()["PATH"]
    lines = [line.split() for line in PROGRAMS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {program: package for program, package in lines if shutil.which(program, path=path) is None}


def tell_missing(missing: dict[str, str]) -> None:
    """Name what is missing, and how to get it."""
    if missing:
        print(f"Missing here: {', '.join(missing)}. The tests that need them say so.")
        print(f"To have them, on Debian: apt-get install {' '.join(dict.fromkeys(missing.values()))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
