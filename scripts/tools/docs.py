"""Rewrites what is generated in the documentation; `docs.py --check [PAGE...]` only tells what is out of date.

docs/cli.md              the command tree, walked
<!-- codes --> …         the table of error codes, read from the source
<!-- tour -->            after this line stands a block of commands and their output, which is made true
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from docs_cli import cli_page
from docs_codes import with_true_codes
from docs_tour import with_true_tour

ROOT = Path(__file__).resolve().parents[2]
CLI_PAGE = ROOT / "docs" / "cli.md"


def main(arguments: Sequence[str]) -> int:
    """Rewrite the pages, or tell which of them are out of date."""
    only_check = "--check" in arguments
    named = [ROOT / argument for argument in arguments if argument != "--check"]
    stale = {path: text for path in named or pages() if (text := current(path)) != path.read_text("utf-8")}
    for path, text in stale.items():
        print(f"{'Out of date, run scripts/docs' if only_check else 'Rewritten'}: {path.relative_to(ROOT)}")
        if not only_check:
            path.write_text(text, "utf-8")
    return 1 if only_check and stale else 0


def pages() -> list[Path]:
    """Return every page."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def current(path: Path) -> str:
    """Return a page as it should be now."""
    if path == CLI_PAGE:
        return cli_page()
    return with_true_tour(with_true_codes(path.read_text("utf-8")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
