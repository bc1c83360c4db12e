"""The sandbox over real sockets: it starts, keeps connections, frames answers and stops cleanly."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from blnkctl.sandbox import Sandbox, SandboxOptions

BODY = json.dumps({"name": "n", "owner": "o", "scopes": ["*:*"], "expires_at": "2027-06-13T00:00:00Z"})


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(fast=True)) as running:
        yield running


def connect(sandbox: Sandbox) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10))


def raw(sandbox: Sandbox, text: bytes) -> bytes:
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_key_is_made_listed_and_used_over_one_connection(sandbox: Sandbox) -> None:
    with connect(sandbox) as connection:
        connection.request("POST", "/api-keys", BODY, {"X-Blnk-Key": sandbox.admin_key})
        created = connection.getresponse()
        assert created.status == 201
        key = json.loads(created.read())["key"]
        assert sandbox.issued == [key]
        connection.request("GET", "/ledgers", headers={"x-blnk-key": f" {key} "})
        used = connection.getresponse()
        assert (used.status, used.getheader("Content-Type")) == (200, "application/json; charset=utf-8")
        used.read()


def test_a_kept_connection_loses_no_time(sandbox: Sandbox) -> None:
    with connect(sandbox) as connection:
        started = time.monotonic()
        for _ in range(50):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"UP"}'
        assert time.monotonic() - started < 1  # with Nagle's algorithm: two seconds


def test_a_long_answer_comes_in_chunks_and_head_has_no_body(sandbox: Sandbox) -> None:
    with connect(sandbox) as connection:
        for _ in range(10):
            connection.request("POST", "/api-keys", BODY, {"X-Blnk-Key": sandbox.admin_key})
            connection.getresponse().read()
        connection.request("GET", "/api-keys?owner=o", headers={"X-Blnk-Key": sandbox.admin_key})
        listed = connection.getresponse()
        assert listed.getheader("Transfer-Encoding") == "chunked"
        assert len(json.loads(listed.read())) == 10
        connection.request("HEAD", "/health")
        head = connection.getresponse()
        assert (head.status, head.getheader("Content-Length"), head.read()) == (404, "18", b"")


def test_a_body_may_come_in_chunks(sandbox: Sandbox) -> None:
    with connect(sandbox) as connection:
        halves = iter([BODY[:20].encode(), BODY[20:].encode()])
        connection.request("POST", "/api-keys", halves, {"X-Blnk-Key": sandbox.admin_key}, encode_chunked=True)
        assert connection.getresponse().read().startswith(b'{"api_key_id"')


def test_a_request_that_cannot_be_read_ends_the_connection(sandbox: Sandbox) -> None:
    for text in (
        b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        answer = raw(sandbox, text)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\n\r\n400 Bad Request")


def test_leading_slashes_are_not_folded_and_any_method_is_answered(sandbox: Sandbox) -> None:
    key = sandbox.admin_key.encode()
    for line in (b"GET //ledgers", b"BREW /ledgers"):
        text = line + b" HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: " + key + b"\r\nConnection: close\r\n\r\n"
        assert b" 404 Not Found\r\n" in raw(sandbox, text)


def test_the_first_of_two_keys_counts(sandbox: Sandbox) -> None:
    head = b"GET /ledgers HTTP/1.1\r\nConnection: close\r\nX-Blnk-Key: %b\r\nX-Blnk-Key: %b\r\n\r\n"
    key = sandbox.admin_key.encode()
    assert b" 200 OK\r\n" in raw(sandbox, head % (key, b"x"))
    assert b" 401 Unauthorized\r\n" in raw(sandbox, head % (b"x", key))


def test_many_clients_at_once_get_a_key_each(sandbox: Sandbox) -> None:
    def create() -> None:
        with connect(sandbox) as connection:
            for _ in range(10):
                connection.request("POST", "/api-keys", BODY, {"X-Blnk-Key": sandbox.admin_key})
                assert connection.getresponse().read().startswith(b'{"api_key_id"')

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sandbox.issued)) == 80


def test_stopping_ends_idle_connections_and_leaves_no_thread_and_no_port() -> None:
    before = threading.active_count()
    sandbox = Sandbox(SandboxOptions(fast=True))
    sandbox.start()
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as idle, connect(sandbox) as connection:
        connection.request("GET", "/health")
        connection.getresponse().read()
        sandbox.stop()
        assert idle.recv(1) == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)
    sandbox.stop()  # a second time does nothing


def test_a_taken_port_is_an_error_and_the_data_file_is_let_go(sandbox: Sandbox, tmp_path: Path) -> None:
    port = int(sandbox.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        Sandbox(SandboxOptions(port=port, data=tmp_path / "rows")).start()
    with Sandbox(SandboxOptions(data=tmp_path / "rows")) as other:
        assert other.url


def test_an_admin_key_is_made_up_where_none_is_given(sandbox: Sandbox) -> None:
    assert len(sandbox.admin_key) >= 32
    assert sandbox.admin_key not in repr(SandboxOptions(admin_key=sandbox.admin_key))
    with Sandbox(SandboxOptions()) as other:
        assert other.admin_key != sandbox.admin_key


def test_importing_the_package_loads_nothing_until_a_name_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, blnkctl.sandbox; sys.exit('http.server' in sys.modules or 'bcrypt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
