"""TLS, proxies and plain http: whom the key is shown to, and what is said when nobody may have it."""

import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import ADMIN_KEY, Blnkctl
from tests.trouble import Troubled, closed_port, failure, result, rows_of, start_troubled

__all__ = ["start_troubled"]

CREATE = ("keys", "create", "billing", "--owner", "acme", "--scope", "ledgers:read", "-o", "json")
LIST = ("keys", "list", "--owner", "acme", "-o", "json")
DOCTOR = ("doctor", "-o", "json")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return an operator's own certificate authority."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Return the path of the authority's certificate."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def speaking_tls(
    authority: trustme.CA,
    name: str = "127.0.0.1",
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> ssl.SSLContext:
    """Return what a server needs to speak TLS under a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_before=not_before, not_after=not_after).configure_cert(context)
    return context


@pytest.fixture
def server(start_troubled: Callable[..., Troubled], authority: trustme.CA) -> Troubled:
    """Return a server whose certificate is from the operator's own authority."""
    return start_troubled(tls=speaking_tls(authority))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy of the machine that runs the tests take part."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# --- certificates ---------------------------------------------------------------------------------


def test_the_main_job_works_over_tls_with_an_authority_of_ones_own(
    blnkctl: Blnkctl, server: Troubled, ca_file: str
) -> None:
    machine = blnkctl.use(server)
    machine.environment["BLNKCTL_CA_FILE"] = ca_file

    key = result(machine.run(*CREATE))
    assert [listed["id"] for listed in result(machine.run(*LIST))] == [key["id"]]
    (verified,) = result(machine.run("keys", "verify", key["id"], "-o", "json"))
    assert verified["authenticates"] is True
    (revoked,) = result(machine.run("keys", "revoke", key["id"], "--yes", "-o", "json"))
    assert revoked["result"] == "revoked"
    checks = {check["check"]: check["message"] for check in result(machine.run(*DOCTOR))}
    assert checks["server"] == f"{server.url} answers, over TLS, its certificate verified"


def test_a_context_keeps_its_authority(
    blnkctl: Blnkctl, server: Troubled, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = blnkctl.use(server)
    for name in ("BLNKCTL_URL", "BLNKCTL_ADMIN_KEY"):
        del machine.environment[name]
    monkeypatch.chdir(Path(ca_file).parent)

    added = machine.run(
        *("context", "add", "prod", "--url", server.url, "--ca-file", Path(ca_file).name, "--admin-key-stdin"),
        stdin=server.admin_key,
    )

    assert added.code == 0, added.err
    monkeypatch.chdir("/")
    assert result(machine.run(*CREATE))["context"] == "prod"


COMMANDS = pytest.mark.parametrize("command", [CREATE, LIST], ids=["create", "list"])


@COMMANDS
def test_an_unknown_authority_is_refused_and_the_hint_names_ca_file(
    command: tuple[str, ...], blnkctl: Blnkctl, server: Troubled
) -> None:
    told = failure(blnkctl.use(server).run(*command), 9, "tls_failed")

    assert told["message"].startswith(f"{server.url} was not reached: ")
    assert told["message"].endswith(". Nothing was sent.")
    assert "certificate" in told["message"]
    assert "--ca-file" in told["hint"]
    assert "BLNKCTL_CA_FILE" in told["hint"]
    assert (server.asked, rows_of(server)) == ([], {})


def test_a_context_whose_authority_is_unknown_is_not_kept(blnkctl: Blnkctl, server: Troubled) -> None:
    machine = blnkctl.use(server)
    alone: dict[str, str | None] = {"BLNKCTL_URL": None, "BLNKCTL_ADMIN_KEY": None}

    added = machine.run(
        *("context", "add", "prod", "--url", server.url, "--admin-key-stdin", "-o", "json"),
        stdin=server.admin_key,
        env=alone,
    )

    assert "--ca-file" in failure(added, 9, "tls_failed")["hint"]
    assert result(machine.run("context", "list", "-o", "json", env=alone)) == []


def test_doctor_says_which_check_of_tls_failed(blnkctl: Blnkctl, server: Troubled) -> None:
    examined = blnkctl.use(server).run(*DOCTOR)

    failure(examined, 10, "check_failed")
    check = json.loads(examined.out)["data"][0]
    assert (check["check"], check["status"]) == ("server", "fail")
    assert "--ca-file" in check["fix"]


def test_another_authority_than_the_one_named_is_refused(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], ca_file: str
) -> None:
    server = start_troubled(tls=speaking_tls(trustme.CA()))
    machine = blnkctl.use(server)

    failure(machine.run(*LIST, env={"BLNKCTL_CA_FILE": ca_file}), 9, "tls_failed")

    assert server.asked == []


@COMMANDS
def test_a_certificate_for_another_name_is_refused(
    command: tuple[str, ...],
    blnkctl: Blnkctl,
    start_troubled: Callable[..., Troubled],
    authority: trustme.CA,
    ca_file: str,
) -> None:
    server = start_troubled(tls=speaking_tls(authority, "ledger.example.com"))
    machine = blnkctl.use(server)

    told = failure(machine.run(*command, env={"BLNKCTL_CA_FILE": ca_file}), 9, "tls_failed")

    assert "mismatch" in told["message"]
    assert told["hint"] == "Put the name that the certificate is for into the URL."
    assert server.asked == []


@pytest.mark.parametrize(("begins", "ends"), [(-9, -1), (1, 9)], ids=["expired", "not yet valid"])
def test_a_certificate_at_the_wrong_time_is_refused(
    begins: int,
    ends: int,
    blnkctl: Blnkctl,
    start_troubled: Callable[..., Troubled],
    authority: trustme.CA,
    ca_file: str,
) -> None:
    now = datetime.now(UTC)
    first, last = now + timedelta(days=begins), now + timedelta(days=ends)
    tls = speaking_tls(authority, not_before=first, not_after=last)
    server = start_troubled(tls=tls)
    machine = blnkctl.use(server)

    told = failure(machine.run(*LIST, env={"BLNKCTL_CA_FILE": ca_file}), 9, "tls_failed")

    assert "expired" in told["message"] or "not yet valid" in told["message"]
    assert told["hint"] == "Renew the server's certificate, unless it is this machine's clock that is wrong."
    assert server.asked == []


def test_https_to_a_port_without_tls_says_what_it_met(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled]
) -> None:
    plain = start_troubled()
    machine = blnkctl.use(plain)

    told = failure(machine.run(*LIST, env={"BLNKCTL_URL": plain.url.replace("http:", "https:")}), 9, "tls_failed")

    assert "_ssl.c" not in told["message"]
    assert "http:// URL" in told["hint"]
    assert plain.presented == set()


def test_http_to_a_port_with_tls_is_an_answer_that_broke(blnkctl: Blnkctl, server: Troubled) -> None:
    machine = blnkctl.use(server)

    failure(machine.run(*LIST, env={"BLNKCTL_URL": server.url.replace("https:", "http:")}), 1, "connection_lost")

    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "it holds no PEM certificate"),
        (b"not a certificate", "it holds no PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "it holds no PEM certificate"),
        (b"\xff\xfe\x00", "it holds no PEM certificate"),
    ],
    ids=["missing", "empty", "text", "broken PEM", "bytes"],
)
def test_a_ca_file_that_cannot_be_used_is_told_before_anything_is_sent(
    content: bytes | None, reason: str, blnkctl: Blnkctl, server: Troubled, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    told = failure(blnkctl.use(server).run(*CREATE, env={"BLNKCTL_CA_FILE": str(path)}), 3, "bad_ca_file")

    assert told["message"] == f"The CA file {path} cannot be used: {reason}. Nothing was sent."
    assert "BLNKCTL_CA_FILE" in told["hint"]
    assert server.asked == []


def test_a_directory_is_no_ca_file(blnkctl: Blnkctl, server: Troubled, tmp_path: Path) -> None:
    told = failure(blnkctl.use(server).run(*LIST, env={"BLNKCTL_CA_FILE": str(tmp_path)}), 3, "bad_ca_file")

    assert str(tmp_path) in told["message"]


def test_no_flag_and_no_variable_switches_verification_off(
    blnkctl: Blnkctl, server: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONHTTPSVERIFY", "BLNKCTL_INSECURE", "CURL_INSECURE", "SSL_NO_VERIFY"):
        monkeypatch.setenv(name, "0" if name == "PYTHONHTTPSVERIFY" else "1")

    failure(blnkctl.use(server).run(*LIST, env={"BLNKCTL_ALLOW_HTTP": "1"}), 9, "tls_failed")

    for flag in ("--insecure", "-k", "--no-verify"):
        assert blnkctl.run(*LIST, flag).code == 2
    assert server.asked == []


# --- proxies --------------------------------------------------------------------------------------


class Proxy:
    """A proxy that understands CONNECT; `heard` is every byte that it was sent in clear or passed on."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heard = b""
        self.asked: list[str] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve, name="proxy")]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening and wait for every thread."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.01)[0]:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._tunnel, args=(client,), name="tunnel")
                self._threads.append(thread)
                thread.start()

    def _tunnel(self, client: socket.socket) -> None:
        with client:
            head = client.recv(65536)
            self.heard += head
            self.asked.append(head.split(b"\r\n")[0].decode())
            client.sendall(self._answer)
            if b" 200 " not in self._answer.split(b"\r\n")[0] or not head.startswith(b"CONNECT "):
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while not self._ended.is_set():
            for side in select.select([client, server], [], [], 0.01)[0]:
                data = side.recv(65536)
                if not data:
                    return
                self.heard += data
                (server if side is client else client).sendall(data)


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., Proxy]]:
    """Return a function that starts proxies."""
    running: list[Proxy] = []

    def start(*arguments: Any) -> Proxy:
        running.append(Proxy(*arguments))
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_proxy_of_the_environment_which_sees_nothing_but_connect(
    variable: str,
    blnkctl: Blnkctl,
    server: Troubled,
    ca_file: str,
    start_proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start_proxy()
    monkeypatch.setenv(variable, proxy.url)
    machine = blnkctl.use(server)
    machine.environment["BLNKCTL_CA_FILE"] = ca_file

    result(machine.run(*CREATE))

    assert proxy.asked == [f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1"]
    assert not [secret for secret in machine.secrets.known() if secret.encode() in proxy.heard]
    assert len(rows_of(server)) == 1


def test_no_proxy_names_what_needs_none(
    blnkctl: Blnkctl,
    server: Troubled,
    ca_file: str,
    start_proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start_proxy()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    result(blnkctl.use(server).run(*LIST, env={"BLNKCTL_CA_FILE": ca_file}))

    assert proxy.asked == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_plain_http_never_goes_through_a_proxy(
    variable: str,
    blnkctl: Blnkctl,
    start_troubled: Callable[..., Troubled],
    start_proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start_proxy()
    monkeypatch.setenv(variable, proxy.url)

    result(blnkctl.use(start_troubled()).run(*CREATE))

    assert (proxy.asked, proxy.heard) == ([], b"")


@COMMANDS
@pytest.mark.parametrize(
    "refusal",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"\r\n", b""],
)
def test_a_proxy_that_does_not_let_it_through_was_sent_nothing(
    refusal: bytes,
    command: tuple[str, ...],
    blnkctl: Blnkctl,
    server: Troubled,
    start_proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start_proxy(refusal)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://operator:hunter2-of-the-proxy@"))

    outcome = blnkctl.use(server).run(*command, "--debug")

    told = failure(outcome, 9, "unreachable")
    assert told["message"].endswith("Nothing was sent.")
    assert "HTTPS_PROXY" in told["hint"]
    assert "hunter2" not in outcome.out + outcome.err
    assert ADMIN_KEY.encode() not in proxy.heard
    assert server.asked == []


def test_a_proxy_that_is_down_was_sent_nothing(
    blnkctl: Blnkctl, server: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        failure(blnkctl.use(server).run(*LIST), 9, "unreachable")


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://operator:hunter2@127.0.0.1:9",
        "socks4://operator:hunter2@127.0.0.1:9",
        "ftp://127.0.0.1:9",
        "http://[::1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    proxy: str, blnkctl: Blnkctl, server: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    outcome = blnkctl.use(server).run(*LIST, "--debug")

    told = failure(outcome, 9, "unreachable")
    assert "HTTPS_PROXY" in told["hint"]
    assert "hunter2" not in outcome.out + outcome.err
    assert server.asked == []


# --- plain http -----------------------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every name resolve to this machine, and return the names that were looked up."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize(
    "host",
    [
        "ledger.example.com",
        "192.0.2.7",
        "127.0.0.1.example.com",
        "0.0.0.0",
        "localhost.example.com",
        "[::ffff:7f00:1]",
    ],
)
@COMMANDS
def test_no_key_goes_over_plain_http_beyond_this_machine(
    command: tuple[str, ...], host: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], names: list[str]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    url = server.url.replace("127.0.0.1", host)
    names.clear()

    told = failure(machine.run(*command, env={"BLNKCTL_URL": url}), 2, "http_not_allowed")

    assert "Nothing was sent." in told["message"]
    assert "BLNKCTL_ALLOW_HTTP" in told["hint"]
    assert (names, server.asked) == ([], [])


def test_plain_http_beyond_this_machine_works_where_it_was_allowed(
    blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], names: list[str]
) -> None:
    server = start_troubled()
    machine = blnkctl.use(server)
    machine.environment["BLNKCTL_URL"] = server.url.replace("127.0.0.1", "ledger.example.com")

    failure(machine.run(*CREATE, env={"BLNKCTL_ALLOW_HTTP": "0"}), 2, "http_not_allowed")
    result(machine.run(*CREATE, env={"BLNKCTL_ALLOW_HTTP": "1"}))

    assert set(names) == {"ledger.example.com"}
    assert len(rows_of(server)) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.8.7"])
def test_plain_http_on_this_machine_needs_no_leave(
    host: str, blnkctl: Blnkctl, start_troubled: Callable[..., Troubled], names: list[str]
) -> None:
    server = start_troubled()

    result(blnkctl.use(server).run(*LIST, env={"BLNKCTL_URL": server.url.replace("127.0.0.1", host)}))

    assert server.presented == {ADMIN_KEY}
