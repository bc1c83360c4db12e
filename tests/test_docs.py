"""The documentation says what the program does: generated pages, the tour, links, names."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from blnkctl.cli.exits import EXIT_CODES
from blnkctl.domain.exports import EXPORT_COLUMNS, EXPORT_SQL, OWNERS_SQL
from blnkctl.domain.recovery import Decision

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "blnkctl"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = ["README.md", *(f"docs/{path.name}" for path in PAGES if path.parent.name == "docs")]
LINK = re.compile(r"\[[^]]*\]\(([^)]+)\)")


@pytest.mark.parametrize("page", GENERATED)
def test_a_page_shows_what_the_program_prints_and_has(page: str) -> None:
    tool = ROOT / "scripts" / "tools" / "docs.py"

    done = subprocess.run(
        [sys.executable, str(tool), "--check", page], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_whatever_is_shown_with_its_output_is_part_of_the_tour() -> None:
    unmarked = {
        page.name: re.findall(r"(?<!<!-- tour -->\n)```console\n.*", page.read_text("utf-8")) for page in PAGES
    }

    assert {name: blocks for name, blocks in unmarked.items() if blocks} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = [target for target in relative_links(page) if not leads_somewhere(page, target)]

    assert dead == []


def relative_links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links to files and headings of this project."""
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            yield target


def leads_somewhere(page: Path, target: str) -> bool:
    """Tell whether a link's file is there, and has the heading."""
    name, _, fragment = target.partition("#")
    file = page if not name else (page.parent / name).resolve()
    return file.exists() and (not fragment or fragment in fragments(file))


def fragments(page: Path) -> set[str]:
    """Return the fragments by which a page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_architecture_names_only_modules_and_functions_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    source = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    modules, functions = re.findall(r"`([\w/]+\.py)`", text), re.findall(r"`(_[a-z]\w+|find_successors)`", text)

    assert [path for path in modules if not (SOURCE / path).exists()] == []
    assert [name for name in functions if f"def {name}(" not in source] == []


def test_the_architecture_gives_a_reason_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    wanted += project["build-system"]["requires"]
    rows = re.findall(r"^\| ([\w, -]+) \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.MULTILINE)
    explained = {name.strip() for row in rows for name in row.split(",")}

    assert {re.split(r"[<>=!~ ]", line)[0] for line in wanted} - explained == set()


def test_the_architecture_shows_every_decision_of_recover() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")

    assert [decision.name for decision in Decision if f"`{decision.name}`" not in text] == []


def test_the_statements_that_ask_a_database_are_shown_as_they_are() -> None:
    text = (ROOT / "docs" / "migration.md").read_text("utf-8")

    assert f"<<'SQL'\n{EXPORT_SQL}SQL\n" in text
    assert f"-c '{OWNERS_SQL}'" in text


def test_every_column_of_an_export_is_explained() -> None:
    page = (ROOT / "docs" / "migration.md").read_text("utf-8").partition("## Exporting what cannot be listed")[2]
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)

    assert tuple(name for row in rows for name in re.findall(r"`(\w+)`", row)) == EXPORT_COLUMNS


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "scripting.md").read_text("utf-8"), re.MULTILINE)

    assert set(EXIT_CODES.values()) - {int(row) for row in rows} == set()


def test_every_environment_variable_is_explained() -> None:
    text = (ROOT / "docs" / "scripting.md").read_text("utf-8")
    used = {
        name
        for path in SOURCE.rglob("*.py")
        for name in re.findall(r"\"(BLNKCTL_[A-Z_]+)\"", path.read_text("utf-8"))
    }

    assert used - set(re.findall(r"BLNKCTL_[A-Z_]+", text)) == set()
    assert set(re.findall(r"^\| `(BLNKCTL_[A-Z_]+)`", text, re.MULTILINE)) - used == set()


def test_the_version_has_an_entry_in_the_changelog() -> None:
    from blnkctl import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_dependency_is_pinned_and_none_has_a_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[0-9][\w.]*", line)] == []
    assert {re.split(r"[<>=!~ ]", line)[0] for line in wanted} - {line.partition("==")[0] for line in lines} == set()
