"""Pasted text: which refusal it is, in every version's form, and whether it is a key."""

import json
from pathlib import Path

import pytest

from blnkctl.domain.pasted import Refusal, RefusalKind, find_keys, find_refusal

CONTRACT = Path(__file__).parents[1] / "contract"
KEY = "aB3-_" * 8 + "xyz="
MISSING = Refusal(RefusalKind.MISSING_SCOPE, "ledgers:read")
BODY = '{"error":"Insufficient permissions for ledgers:read"}'
DETAILED = (
    '{"error":"Insufficient permissions for ledgers:read","error_detail":{"code":"AUTH_INSUFFICIENT_PERMISSIONS",'
    '"message":"Insufficient permissions for ledgers:read"}}'
)


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        DETAILED,
        json.dumps(json.loads(DETAILED), indent=2),
        json.dumps(BODY),
        f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\r\n{BODY}",
        f"> GET /ledgers HTTP/1.1\n> X-Blnk-Key: {KEY}\n< HTTP/1.1 403\n{BODY}\n* Connection left intact",
        "2026-11-23 ERROR blnk: Insufficient permissions for ledgers:read (403)",
    ],
)
def test_a_missing_scope_is_found_whatever_stands_around_it(text: str) -> None:
    assert find_refusal(text) == MISSING


@pytest.mark.parametrize("kind", RefusalKind, ids=lambda kind: kind.name)
def test_every_refusal_is_known_by_its_words_and_by_its_code(kind: RefusalKind) -> None:
    words = f"{{{kind.words}}}" if ":" in kind.words else json.dumps({"error": kind.words})

    codes = [json.dumps({"error_detail": {"code": code}}) for code in kind.signs[1:]]
    for text in (words, json.dumps(words), *codes):
        found = find_refusal(text)
        assert found is not None
        assert found.kind is kind


def test_spaced_json_of_an_unauthorized_request_is_known() -> None:
    found = find_refusal('{ "error": "unauthorized" }')

    assert found is not None
    assert found.kind is RefusalKind.UNAUTHORIZED


def test_a_method_without_an_action_misses_half_a_scope() -> None:
    assert find_refusal('{"error":"Insufficient permissions for ledgers:"}') == Refusal(
        RefusalKind.MISSING_SCOPE, "ledgers:"
    )


@pytest.mark.parametrize("text", ["", "{}", '{"error":"API key not found"}', "404 page not found", KEY, "<html>"])
def test_anything_else_is_no_refusal(text: str) -> None:
    assert find_refusal(text) is None


def recorded() -> list[tuple[str, str]]:
    """Return every 401 and 403 with a body that real servers were recorded with."""
    return [
        (f"{path.stem}: {exchange['name']}", json.dumps(exchange["response"]["body"]))
        for path in sorted(CONTRACT.glob("*.json"))
        for exchange in json.loads(path.read_text("utf-8"))["exchanges"]
        if exchange["response"]["status"] in (401, 403) and exchange["response"]["body"]
    ]


def test_every_recorded_refusal_is_known() -> None:
    bodies = recorded()
    unknown = [name for name, body in bodies if find_refusal(body) is None]

    assert len(bodies) > 50
    assert unknown == []


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"X-Blnk-Key: {KEY}", f"export BLNK_API_KEY='{KEY}'", f'"{KEY}",'])
def test_a_key_is_found_whatever_stands_around_it(text: str) -> None:
    (found,) = find_keys(text)

    assert found.reveal() == KEY


@pytest.mark.parametrize("text", ["", KEY[1:], f"x{KEY}", f"{KEY}=", KEY[:-1], "the-master-key"])
def test_what_has_another_shape_is_no_key(text: str) -> None:
    assert find_keys(text) == []


def test_a_key_that_stands_there_twice_is_one() -> None:
    assert len(find_keys(f"{KEY} {KEY}")) == 1
