"""Programs of the machine that some tests run; programs.txt names their Debian packages."""

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = dict(
    line.split()
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)


def program(name: str) -> str:
    """Return the path of a program. Where it is missing the test says so by name; in CI that is a failure."""
    path = shutil.which(name)
    if path is None:
        missing = f"needs {name}, which is not here (on Debian: apt-get install {PACKAGES[name]})"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return path
