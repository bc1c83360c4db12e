"""Which versions can be asked for, and the limits that servers start with."""

from __future__ import annotations

import pytest

from blnkctl.sandbox import NEWEST, Emulator, RateLimit, SandboxOptions, parse_rate_limit
from tests.sandbox.sandbox_client import Client, as_json


@pytest.mark.parametrize(("asked", "core"), [("0.10.1", "0.10.1"), ("v0.13.2", "0.13.2"), ("0.15.2", "0.15.2")])
def test_a_known_version_is_emulated_without_a_note(asked: str, core: str) -> None:
    emulator = Emulator(SandboxOptions(core=asked))
    assert (emulator.core, emulator.notes) == (core, ())


def test_a_newer_version_behaves_as_the_newest_and_says_so() -> None:
    emulator = Emulator(SandboxOptions(core="0.17.0"))
    assert emulator.core == NEWEST
    assert emulator.notes == ("Core 0.17.0 is newer than known; behaving as 0.15.2",)


@pytest.mark.parametrize("nonsense", ["", "0.13", "latest", "0.13.2-rc1", "0.13.2.1", "0.١٣.2", "-1.0.0"])
def test_nonsense_is_no_version(nonsense: str) -> None:
    with pytest.raises(ValueError, match=r"is not a Core version: write it like 0\.15\.2"):
        Emulator(SandboxOptions(core=nonsense))


def test_a_version_without_api_keys_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Core 0\.10\.0 had no API keys: .* is 0\.10\.1"):
        Emulator(SandboxOptions(core="0.10.0"))


@pytest.mark.parametrize(
    ("core", "limit", "remaining"),
    [
        ("0.12.2", None, None),
        ("0.13.0", "500", "1999"),
        ("0.13.1", "500", "1999"),
        ("0.13.2", "5000000", "10000000"),
        ("0.15.2", "5000000", "10000000"),
    ],
)
def test_the_limiter_that_nobody_configured(core: str, limit: str | None, remaining: str | None) -> None:
    answer = Client(core).ask("GET", "/")
    assert (answer.header("RateLimit-Limit"), answer.header("RateLimit-Remaining")) == (limit, remaining)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("5", RateLimit(5, 10)), ("5:8", RateLimit(5, 8)), ("0.5:1", RateLimit(0.5, 1)), ("2.9", RateLimit(2.9, 4))],
)
def test_a_rate_limit_is_read(text: str, limit: RateLimit) -> None:
    assert parse_rate_limit(text) == limit


@pytest.mark.parametrize("text", ["", "x", "5:", "5:x", "0", "-1:5", "nan:1", "inf:1", "0.5", "5:0", "1e400"])
def test_a_rate_limit_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate limit|burst of at least one"):
        parse_rate_limit(text)


def test_a_bucket_is_one_client_and_one_path_and_refills() -> None:
    client = Client(rate_limit=RateLimit(2, 2))

    def status(path: str, method: str = "GET", **headers: str) -> int:
        return client.emulator.answer(method, path, headers).status

    assert [status("/health") for _ in range(3)] == [200, 200, 429]
    assert status("/health", "POST") == 429
    assert status("/") == 200
    assert client.emulator.answer("GET", "/health", {}, client="127.0.0.2").status == 200
    assert client.emulator.answer("GET", "/health", {"X-Forwarded-For": "9.9.9.9, 8.8.8.8"}).status == 200
    client.time.pass_by(0.5)
    assert [status("/health") for _ in range(2)] == [200, 429]


def test_a_limited_answer_carries_no_security_headers() -> None:
    client = Client(rate_limit=RateLimit(1, 1))
    assert client.ask("GET", "/").header("Cache-Control") == "no-store"
    limited = client.ask("GET", "/")
    assert (limited.status, limited.header("Cache-Control"), limited.header("Retry-After")) == (429, None, None)
    assert as_json(limited)["error_detail"]["code"] == "GEN_RATE_LIMITED"


@pytest.mark.parametrize(
    ("core", "create", "listing"), [("0.13.5", 201, 200), ("0.14.2", 201, 200), ("0.14.3", 401, 401)]
)
def test_without_secure_mode_the_endpoint_is_open_to_anyone_until_0_14_3(
    core: str, create: int, listing: int
) -> None:
    client = Client(core, insecure=True)
    body = '{"name":"x","owner":"alice","scopes":["*:*"],"expires_at":"2027-06-13T00:00:00Z"}'
    assert client.ask("POST", "/api-keys", "", body).status == create
    assert client.ask("GET", "/api-keys?owner=alice", "").status == listing
    assert client.ask("GET", "/blnkctl-probe", "").status == 404


@pytest.mark.parametrize(("core", "status"), [("0.10.2", 401), ("0.10.3", 401), ("0.10.4", 200), ("0.15.2", 200)])
def test_health_is_open_since_0_10_4(core: str, status: int) -> None:
    assert Client(core).ask("GET", "/health", "").status == status


@pytest.mark.parametrize(("core", "sent"), [("0.12.2", None), ("0.13.0", "max-age=31536000; includeSubDomains")])
def test_behind_https_the_answer_says_so_since_0_13(core: str, sent: str | None) -> None:
    answer = Client(core).emulator.answer("GET", "/", {"X-Forwarded-Proto": "HTTPS"})
    assert answer.header("Strict-Transport-Security") == sent
