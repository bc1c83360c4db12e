"""JSON documents compared whole with those under `documents/`; what differs from run to run is named instead.

A document that is meant to change: run the tests with PIN_DOCUMENTS=1, then read the difference.
"""

import json
import os
import re
from pathlib import Path

from tests.conftest import Blnkctl

DOCUMENTS = Path(__file__).parent / "documents"
_VARYING = (
    (r"api_key_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time>"),
    (r"http://127\.0\.0\.1:\d+", "<url>"),
    (r"age1[0-9a-z]{58}", "<recipient>"),
    (r'"fingerprint": "[0-9a-f]{16}"', '"fingerprint": "<fingerprint>"'),
    (r'"latency_ms": [\d.]+', '"latency_ms": "<milliseconds>"'),
    (r'"(secret)": "[^"]+"', r'"\1": "<secret>"'),
    (r'"digest": "[0-9a-f]{64}"', '"digest": "<digest>"'),
    (r'"operation": "(\w+) [0-9a-f]{16}"', r'"operation": "\1 <operation>"'),
    (r'"target": "[0-9a-f]{16}"', '"target": "<operation>"'),
    (r"within \d+ s of", "within <seconds> s of"),
    (r"Recover again in \d+ s", "Recover again in <seconds> s"),
)


def placeholders(text: str, machine: Blnkctl) -> str:
    """Return a document with names in place of what differs from run to run; each id keeps a number of its own."""
    text = text.replace(str(machine.home), "<home>")
    for pattern, name in _VARYING:
        text = _numbered(pattern, text) if name == "<id>" else re.sub(pattern, name, text)
    return text


def _numbered(pattern: str, text: str) -> str:
    seen: dict[str, str] = {}
    return re.sub(pattern, lambda match: seen.setdefault(match[0], f"<id {len(seen) + 1}>"), text)


def assert_pinned(name: str, text: str, machine: Blnkctl) -> None:
    """Compare a document with the one that is kept under this name."""
    shown = placeholders(text, machine)
    path = DOCUMENTS / f"{name}.json"
    if os.environ.get("PIN_DOCUMENTS"):
        path.write_text(shown, "utf-8")
    assert json.loads(shown) == json.loads(path.read_text("utf-8"))
    assert shown == path.read_text("utf-8")
