"""Whether git would take a file up: asked of git itself, which is kept from running what a repository names."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from blnkctl.adapters.sinks.unfit import Unfit
from blnkctl.domain.names import escape_unsafe, harmless
from blnkctl.system.children import child_environment
from blnkctl.system.programs import run_within

GIT_SECONDS = 5.0
_ELSEWHERE = "Name a path outside of the repository"
_NO_REPOSITORY = b"fatal: not a git repository"
_YES, _NO = 0, 1
_SETTINGS = ("-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}")
_SPECIAL_IN_PATTERNS = re.compile(r"([\\*?\[]| (?= *$))")


def check_is_kept_out(path: Path, environment: Mapping[str, str]) -> None:
    """Return if a file is in no work tree, or ignored there.

    Raises:
        Unfit: git tracks it, would offer it for the next commit, or cannot tell.
    """
    root = _work_tree(path.parent)
    if root is None:
        return
    shown = escape_unsafe(str(root))
    is_tracked = _ask(path, environment, "--literal-pathspecs", "ls-files", "--error-unmatch", "--", path.name)
    if is_tracked is None:
        return
    if is_tracked:
        raise Unfit(f"git tracks it, in {shown}", f"{_ELSEWHERE}, or take it out: git rm --cached, then ignore it.")
    if not _ask(path, environment, "check-ignore", "-q", "--", f"./{path.name}"):
        line = harmless(_ignoring(path.relative_to(root)))  # to be copied: its backslashes stay single
        raise Unfit(f"git does not ignore it, in {shown}", f"Add this line to {shown}/.gitignore: {line}")


def _work_tree(directory: Path) -> Path | None:
    """Return the nearest directory that has a `.git`; lets most files do without git."""
    return next((one for one in (directory, *directory.parents) if os.path.lexists(one / ".git")), None)


def _ask(path: Path, environment: Mapping[str, str], *question: str) -> bool | None:
    """Return git's yes or no; None where it says that there is no repository after all."""
    words = ["git", *_SETTINGS, "-C", str(path.parent), *question]
    try:
        ended = run_within(words, _environment(environment), GIT_SECONDS)
    except OSError as error:
        raise Unfit(
            f"whether git ignores it cannot be asked (git: {error.strerror})", f"{_ELSEWHERE}, or install git."
        ) from None
    if ended.code in (_YES, _NO):
        return ended.code == _YES
    if ended.code is None:
        raise Unfit(
            f"git did not tell within {GIT_SECONDS:g} s whether it ignores it",
            f"{_ELSEWHERE}, or see why: git status",
        )
    if ended.output.startswith(_NO_REPOSITORY):
        return None
    said = ended.output.decode("utf-8", "replace").strip().partition("\n")[0]
    raise Unfit(
        f"git cannot tell whether it ignores it ({escape_unsafe(said)})", f"{_ELSEWHERE}, or see why: git status"
    )


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that points git at no other repository, and lets it speak English."""
    kept = {name: value for name, value in child_environment(environment).items() if not name.startswith("GIT_")}
    return kept | {"GIT_DISCOVERY_ACROSS_FILESYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "LANGUAGE": ""}


def _ignoring(relative: Path) -> str:
    return "/" + _SPECIAL_IN_PATTERNS.sub(r"\\\1", str(relative))
