"""The tour: blocks of commands in the documentation, run on a sandbox so that what they show is what they print."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"(?<=<!-- tour -->\n```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)", re.MULTILINE)
VARYING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"127\.0\.0\.1:\d+", "HOST"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"blnkctl-sandbox-\w+", "DIRECTORY"),
    (r"age1[0-9a-z]{58}", "RECIPIENT"),
    (r"\b[0-9a-f]{16}\b", "HEX"),
    (r"within \d+ s of", "within N s of"),
)


def with_true_tour(text: str) -> str:
    """Return a page whose tour shows what its commands print now; what differs every time is left as it stands."""
    blocks = BLOCK.findall(text)
    if not blocks:
        return text
    commands = [COMMAND.findall(block) for block in blocks]
    outputs = iter(run([command for block in commands for command in block]))
    shown = ["\n".join(f"$ {command}\n{next(outputs)}" for command in block) for block in commands]
    renewed = iter(old if alike(old, new) else new for old, new in zip(blocks, shown, strict=True))
    return BLOCK.sub(lambda _: next(renewed), text)


def run(commands: list[str]) -> list[str]:
    """Run command lines in one shell on one sandbox, as on a terminal; return each one's output."""
    with tempfile.TemporaryDirectory(prefix="blnkctl-tour-") as directory:
        captured = [Path(directory) / str(number) for number in range(len(commands))]
        lines = ["export BLNKCTL_OUTPUT=table"]
        for command, path in zip(commands, captured, strict=True):
            script = command.replace("\n> ", "\n")
            lines.append(f"{{ {script}\n}} >{shlex.quote(str(path))} 2>&1 </dev/null")
        blnkctl = str(Path(sys.executable).with_name("blnkctl"))
        argv = [blnkctl, "sandbox", "--fast", "--", "sh", "-c", "\n".join(lines)]
        subprocess.run(argv, cwd=directory, env=environment(), check=False, stdin=subprocess.DEVNULL)
        return [path.read_text("utf-8") for path in captured]


def environment() -> dict[str, str]:
    """Return an environment where `blnkctl` and `python` are those of this virtual environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", "NO_COLOR": "1"}


def alike(old: str, new: str) -> bool:
    """Tell whether two texts differ only in what differs every time."""
    return constant(old) == constant(new)


def constant(text: str) -> str:
    """Return a text without what differs every time."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text
