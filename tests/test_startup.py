"""What a short command must not load: each of these costs more than all the rest of starting up."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.stage import created
from tests.conftest import Blnkctl

HEAVY = (
    "bcrypt",
    "cryptography",
    "httpx",
    "jeepney",
    "keyring",
    "pydantic",
    "secretstorage",
    "rich",
    "platformdirs",
    "tomlkit",
    "asyncio",
)
WATCH = """
import json, os, runpy, sys
sys.modules["click"] = None  # where it is installed, httpx loads it, and rich, for a command line of its own
def tell(code):
    sys.stdout.flush()
    with open({path!r}, "w") as file:
        json.dump(sorted(sys.modules), file)
    leave(code)
leave, os._exit = os._exit, tell
become = os.execvpe
def tell_and_become(file, args, env):
    with open({path!r}, "w") as written:
        json.dump(sorted(sys.modules), written)
    become(file, args, env)
os.execvpe = tell_and_become
sys.argv = ["blnkctl", *{arguments!r}]
runpy.run_module("blnkctl", run_name="__main__")
"""
Loaded = Callable[..., set[str]]


@pytest.fixture
def loaded(operator: Blnkctl, tmp_path: Path) -> Loaded:
    """Return a function that runs a command line as a process and tells which modules it loaded."""

    def run(*arguments: str, code: int = 0) -> set[str]:
        path = tmp_path / "modules.json"
        script = WATCH.format(path=str(path), arguments=list(arguments))
        done = subprocess.run(
            [sys.executable, "-c", script], env=operator.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return set(json.loads(path.read_text()))

    return run


def heavy(modules: set[str]) -> set[str]:
    """Return the heavy packages among loaded modules."""
    return {name for name in HEAVY if name in modules}


def test_the_version_needs_nothing_but_itself(loaded: Loaded) -> None:
    modules = loaded("--version")

    assert "typer" not in modules
    assert not heavy(modules)
    assert {name for name in modules if name.startswith("blnkctl")} == {"blnkctl"}


@pytest.mark.parametrize("words", ["--help", "keys --help", "keys list --help", "keys create -h", "context --help"])
def test_help_loads_nothing_heavy(words: str, loaded: Loaded) -> None:
    modules = loaded(*words.split())

    assert not heavy(modules) & {"httpx", "keyring", "pydantic", "rich", "asyncio"}
    assert "sqlite3" not in modules
    assert "pyrage" not in modules


def test_help_of_the_root_imports_no_group(loaded: Loaded) -> None:
    modules = loaded("--help")

    assert not {
        name for name in modules if name.startswith(("blnkctl.adapters", "blnkctl.cli.keys", "blnkctl.sandbox"))
    }


@pytest.mark.parametrize("words", ["keys crate", "kyes", "keys list --nonsense"])
def test_a_mistake_loads_nothing_heavy(words: str, loaded: Loaded) -> None:
    assert not heavy(loaded(*words.split(), code=2)) & {"httpx", "keyring", "pydantic", "rich", "asyncio"}


@pytest.mark.parametrize("output", ["tsv", "json", "ids"])
def test_list_needs_neither_keyring_nor_pydantic_nor_the_store(output: str, loaded: Loaded) -> None:
    modules = loaded("keys", "list", "--owner", "acme", "-o", output)

    assert "httpx" in modules
    assert not heavy(modules) & {"keyring", "pydantic", "rich", "tomlkit", "platformdirs"}
    assert "pyrage" not in modules
    assert not {name for name in modules if name.startswith("blnkctl.sandbox")}
    assert "blnkctl.cli.tables" not in modules


def test_create_needs_neither_keyring_nor_pydantic(loaded: Loaded) -> None:
    modules = loaded("keys", "create", "ci", "--owner", "acme", "--scope", "ledgers:read")

    assert not heavy(modules) & {"keyring", "pydantic", "rich", "tomlkit", "platformdirs"}
    assert "blnkctl.cli.tables" not in modules


def test_exec_needs_no_network(operator: Blnkctl, loaded: Loaded) -> None:
    created(operator)

    modules = loaded("keys", "exec", "acme/billing", "--", "true")

    assert not heavy(modules)
    assert "ssl" not in modules


def test_reveal_needs_no_network(operator: Blnkctl, tmp_path: Path) -> None:
    created(operator)
    path = tmp_path / "modules.json"
    script = WATCH.format(path=str(path), arguments=["keys", "reveal", "acme/billing"])

    subprocess.run([sys.executable, "-c", script], env=operator.environment, stdout=subprocess.DEVNULL, check=True)

    assert not heavy(set(json.loads(path.read_text())))
