"""`blnkctl completion`: what makes a shell ask blnkctl on a TAB, printed or put where the shell finds it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from blnkctl.cli.completers import SHELLS, TAB_VARIABLE, complete_shell
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.domain.errors import UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.system.files import write_atomically

app = application("Make TAB complete commands, contexts, owners, keys and scopes.", "blnkctl completion bash")
_READABLE = 0o644
# Found by its name in $fpath, the file is run as the function of the first TAB, which the script alone leaves empty.
_ZSH_FIRST_TAB = '\nif [[ ${funcstack[1]-} == _blnkctl ]]; then _blnkctl_completion "$@"; fi'


@command(
    app,
    "completion",
    """
    blnkctl completion bash --install
    source <(blnkctl completion zsh)
    """,
)
def completion(
    ctx: typer.Context,
    shell: Annotated[
        str,
        typer.Argument(metavar="|".join(SHELLS), help="The shell to complete in.", autocompletion=complete_shell),
    ],
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell finds it, and say where that is.")
    ] = False,
) -> int:
    """Print the script that makes TAB complete commands, options, contexts, owners, keys and scopes.

    A TAB reads the configuration and the index of this machine. It asks no server and no store, and opens no secret.
    --install changes no start-up file of the shell: where one needs a line, it says which.

    Exit codes: 0, 2 an unknown shell, or the file cannot be written.
    """
    run = Run.of(ctx)
    if shell not in SHELLS:
        hint = f"Shells: {', '.join(SHELLS)}."
        raise UsageError(f"There is no completion for {escape_unsafe(shell)!r}.", code="unknown_shell", hint=hint)
    script = completion_script(shell)
    if not install:
        return _print(run, shell, script)
    path = _place(shell, run.environment)
    run.terminal.note(f"{'Written' if _write(path, script) else 'It is there already'}: {path}")
    run.terminal.note(_NEXT[shell](path))
    return _finish(run, {"shell": shell, "path": str(path), "script": None})


def completion_script(shell: str) -> str:
    """Return the script of a shell: Typer's own."""
    script = get_completion_script(prog_name="blnkctl", complete_var=TAB_VARIABLE, shell=shell)
    return f"{script}{_ZSH_FIRST_TAB if shell == 'zsh' else ''}\n"


def _print(run: Run, shell: str, script: str) -> int:
    if run.output.chosen != "json":
        run.output.line(script, end="")
    return _finish(run, {"shell": shell, "path": None, "script": script})


def _finish(run: Run, record: dict[str, object]) -> int:
    """Write the document; in the other formats the result is the script, or the file."""
    return run.finish(Result([record], is_list=False)) if run.output.chosen == "json" else 0


def _place(shell: str, environment: Mapping[str, str]) -> Path:
    """Return the file of a shell's completion."""
    configuration = _directory(environment, "XDG_CONFIG_HOME", ".config")
    data = _directory(environment, "XDG_DATA_HOME", ".local/share")
    if shell == "fish":
        return configuration / "fish/completions/blnkctl.fish"
    if shell == "powershell":
        return configuration / "powershell/blnkctl.ps1"
    if shell == "zsh":
        return data / "zsh/site-functions/_blnkctl"
    given = environment.get("BASH_COMPLETION_USER_DIR", "").partition(":")[0]
    return (Path(given) if given.startswith("/") else data / "bash-completion") / "completions/blnkctl"


def _directory(environment: Mapping[str, str], variable: str, default: str) -> Path:
    """Return a directory of the XDG specification, which says to ignore a relative one."""
    given = environment.get(variable, "")
    return Path(given) if given.startswith("/") else Path(environment.get("HOME") or Path.home()) / default


def _write(path: Path, script: str) -> bool:
    """Write the file unless it is there as it should be; tell whether it was written."""
    content = script.encode()
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, _READABLE)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.",
            code="not_installed",
            hint="Leave --install out, and put the script that is printed where your shell finds it.",
        ) from None
    return True


def _next_in_bash(path: Path) -> str:
    return f"New shells use it if they have bash-completion; else put into ~/.bashrc: source {quote(str(path))}"


def _next_in_zsh(path: Path) -> str:
    line = f"fpath=({quote(str(path.parent))} $fpath)"
    return f"For new shells to find it put into ~/.zshrc, above `autoload -Uz compinit && compinit`: {line}"


def _next_in_fish(_path: Path) -> str:
    return "New shells use it."


def _next_in_powershell(path: Path) -> str:
    return f"For new shells to find it put into $PROFILE: . '{str(path).replace(chr(39), 2 * chr(39))}'"


_NEXT: dict[str, Callable[[Path], str]] = {
    "bash": _next_in_bash,
    "zsh": _next_in_zsh,
    "fish": _next_in_fish,
    "powershell": _next_in_powershell,
}
