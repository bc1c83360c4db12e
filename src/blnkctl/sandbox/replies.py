"""What goes back to the client, before it becomes octets on a wire. Knows no keys and no versions."""

from __future__ import annotations

import html
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from blnkctl.sandbox import gojson

JSON = "application/json; charset=utf-8"
_UNCHUNKED = 2048  # Go's buffer: an answer that fits gets a Content-Length


@dataclass(frozen=True)
class Response:
    """An answer as it is sent: headers complete but for ``Date``, the body unframed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Reply:
    """What a handler says: a status, a body and its type."""

    status: int
    body: str = ""
    content_type: str | None = JSON


@dataclass(frozen=True)
class Refusal:
    """An error in the server's own form; the code is left out where a version has none."""

    status: int
    code: str
    message: str

    def reply(self, detailed: bool) -> Reply:
        body: dict[str, object] = {"error": self.message}
        if detailed:
            body["error_detail"] = {"code": self.code, "message": self.message}
        return Reply(self.status, gojson.encode(body))


class RefusedError(Exception):
    """A request that ends with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


NOT_FOUND = Reply(404, "404 page not found", "text/plain")
PANIC = Reply(500, "", None)


def finish(reply: Reply, headers: list[tuple[str, str]], method: str) -> Response:
    """Add the headers that describe the body; drop the body of an answer to HEAD."""
    body = reply.body.encode("utf-8", "replace")
    if reply.content_type is not None:
        headers = [*headers, ("Content-Type", reply.content_type)]
    if reply.status != HTTPStatus.NO_CONTENT:
        headers = [*headers, _framing(len(body))]
    return Response(reply.status, tuple(sorted(headers)), b"" if method == "HEAD" else body)


def redirect(method: str, path: str, query: str) -> Response:
    """Send the client to a path; only an answer to GET says so in its body."""
    location = _cleaned(quote(path.encode("utf-8", "surrogateescape"), safe="$&+,/:;=@-_.~"))
    location += f"?{query}" if query else ""
    headers = [("Location", location)]
    if method != "GET":
        return finish(Reply(307, "", None), headers, method)
    body = f'<a href="{_escaped(location)}">Moved Permanently</a>.\n\n'
    return finish(Reply(301, body, "text/html; charset=utf-8"), headers, method)


def bad_request() -> Response:
    """Answer a request line that Go's server cannot read."""
    headers = (("Connection", "close"), ("Content-Type", "text/plain; charset=utf-8"))
    return Response(400, headers, b"400 Bad Request")


def _framing(length: int) -> tuple[str, str]:
    return ("Content-Length", str(length)) if length <= _UNCHUNKED else ("Transfer-Encoding", "chunked")


def _cleaned(path: str) -> str:
    """Resolve dots and doubled slashes, keeping a last slash, as Go does for a redirect."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    clean = "/" + "/".join(kept)
    return clean + "/" if path.endswith("/") and kept else clean


def _escaped(text: str) -> str:
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
