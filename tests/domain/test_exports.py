"""What the statements ask of a database: the columns that are read, and no secret."""

import re

from blnkctl.domain.exports import EXPORT_COLUMNS, EXPORT_SQL, OWNERS_SQL
from blnkctl.sandbox import exports as sandbox_exports


def selected() -> list[str]:
    """Return the expressions that the export selects."""
    body = EXPORT_SQL.partition("SELECT\n")[2].partition("\n  FROM ")[0]
    return [" ".join(expression.split()) for expression in re.split(r",\n(?=    \w)", body)]


def test_the_export_gives_the_columns_in_their_order() -> None:
    assert tuple(expression.split()[-1] for expression in selected()) == EXPORT_COLUMNS


def test_the_stored_key_is_compared_and_never_given_out() -> None:
    holding = [expression for expression in selected() if re.search(r"\bkey\b", expression)]

    assert [expression.split()[-1] for expression in holding] == ["storage_scheme"]
    assert re.findall(r"\bkey\b(?! ~ ')", holding[0]) == []
    assert set(re.findall(r"(?:THEN|ELSE) (\S+)", holding[0])) == {"'plaintext'", "'sha256'", "'bcrypt'", "'unknown'"}
    assert "key_prefix" not in EXPORT_SQL


def test_the_owners_can_be_quoted_by_a_shell() -> None:
    assert "'" not in OWNERS_SQL
    assert "\n" not in OWNERS_SQL


def test_the_sandbox_takes_the_same_columns() -> None:
    assert sandbox_exports.COLUMNS == EXPORT_COLUMNS
