"""Makes a virtual environment of this checkout: `environment.py DIRECTORY [EXTRA]`. Only the standard library.

The project is installed editable, under constraints.txt. A stamp in the environment tells what it was made from, so
that the second time nothing is done.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMP = "made-from"


def main() -> int:
    """Make the environment unless it is there already, and return the exit code."""
    directory, extra = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    wanted = fingerprint(extra)
    if is_made_from(directory, wanted):
        return 0
    started = time.monotonic()
    say(f"Making {directory.name} with Python {sys.version.split()[0]} (once; about a minute) ...")
    try:
        make(directory, extra)
    except subprocess.CalledProcessError as failure:
        say(f"That failed: {' '.join(map(str, failure.cmd))} ended with {failure.returncode}.")
        say("The packages come from PyPI, or from where pip is configured to look: is that reachable?")
        return 1
    (directory / STAMP).write_text(wanted)
    say(f"Made {directory.name} in {time.monotonic() - started:.0f} s; the next run uses it as it is.")
    return 0


def fingerprint(extra: str) -> str:
    """Tell what an environment depends on: the requirements, their versions, the Python, the place."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    parts = [project["project"], project["build-system"], (ROOT / "constraints.txt").read_text("utf-8"), extra]
    return hashlib.sha256(repr([*parts, sys.version, str(ROOT)]).encode()).hexdigest()


def is_made_from(directory: Path, wanted: str) -> bool:
    """Tell whether the environment is there, whole, and made from this."""
    stamp = directory / STAMP
    return (directory / "bin" / "python").exists() and stamp.exists() and stamp.read_text() == wanted


def make(directory: Path, extra: str) -> None:
    """Make the environment anew. What builds it goes first, so that its version is pinned too."""
    shutil.rmtree(directory, ignore_errors=True)
    pip = make_empty(directory)
    install = [
        *pip,
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    run([*install, "hatchling", "editables"])
    run([*install, "--no-build-isolation", "--editable", f"{ROOT}[{extra}]" if extra else str(ROOT)])


def make_empty(directory: Path) -> list[str]:
    """Make an empty environment and return its pip. Debian's Python may lack ensurepip: then the outer pip serves."""
    if importlib.util.find_spec("ensurepip") is not None:
        run([sys.executable, "-m", "venv", str(directory)])
        return [str(directory / "bin" / "python"), "-m", "pip"]
    if importlib.util.find_spec("pip") is None:
        say("This Python has neither ensurepip nor pip. On Debian: apt-get install python3-venv")
        raise SystemExit(2)
    run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
    return [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python")]


def run(command: list[str]) -> None:
    """Run a command; a failure raises."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def say(line: str) -> None:
    """Tell the person; standard output belongs to the tool that runs next."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
