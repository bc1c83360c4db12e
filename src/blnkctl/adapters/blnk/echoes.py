"""Masks the keys that a server was sent in what comes back: proxies quote headers. Knows no request."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from urllib.parse import quote, quote_plus

from blnkctl.domain.secret import MASK, Secret

_REMEMBERED = 128  # more than one search of a text sends


class SentKeys:
    """Each key for as long as its request is under way, and the latest ones for longer. For any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way: list[_Sent] = []
        self._latest: deque[_Sent] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def under_way(self, key: Secret) -> Iterator[None]:
        """Remember a key until the block ends, and a while longer."""
        with self._lock:
            sent = next((known for known in self._latest if known.key is key), None) or _Sent(key)
            self._under_way.append(sent)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(sent)
                if sent in self._latest:
                    self._latest.remove(sent)
                self._latest.append(sent)

    def masked(self, content: bytes) -> bytes:
        """Return what came back without the keys, in any way that it may be written."""
        with self._lock:
            known = [*self._under_way, *self._latest]
        for sent in known:
            for shape in sent.shapes:
                content = content.replace(shape, MASK.encode())
        return content


class _Sent:
    """A key with the ways to write it, which take longer to find than to look for."""

    def __init__(self, key: Secret) -> None:
        self.key = key
        text = key.reveal()
        ways = {text, quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1]}
        self.shapes = [way.encode() for way in ways]
