"""Which server a URL means, and the name of its entries in a secret store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.contexts import check_transport
from blnkctl.domain.errors import UsageError
from blnkctl.domain.servers import ServerUrl, parse_server_url

PASSWORD = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("text", "normalised", "service"),
    [
        ("https://ledger.example.com", "https://ledger.example.com", "blnk:ledger.example.com"),
        ("HTTPS://Ledger.Example.COM/", "https://ledger.example.com", "blnk:ledger.example.com"),
        ("https://ledger.example.com:443", "https://ledger.example.com", "blnk:ledger.example.com"),
        ("https://ledger.example.com.", "https://ledger.example.com", "blnk:ledger.example.com"),
        ("https://h:8443/", "https://h:8443", "blnk:h:8443"),
        ("https://h/blnk/", "https://h/blnk", "blnk:h/blnk"),
        ("https://h/A/b//", "https://h/A/b", "blnk:h/A/b"),
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001", "blnk:127.0.0.1:5001"),
        ("http://localhost:80", "http://localhost", "blnk:localhost:80"),
        ("http://h:443", "http://h:443", "blnk:h:443"),
        ("https://h:80", "https://h:80", "blnk:h:80"),
        ("http://[::1]:5001/x", "http://[::1]:5001/x", "blnk:[::1]:5001/x"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]", "blnk:[2001:db8::1]"),
    ],
)
def test_a_url_is_normalised_and_names_the_entries_of_its_server(text: str, normalised: str, service: str) -> None:
    url = parse_server_url(text)
    assert (str(url), url.service) == (normalised, service)


hosts = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?(\.[A-Za-z0-9]{1,5}){0,2}", fullmatch=True)
paths = st.from_regex(r"(/([A-Za-z0-9_~-][A-Za-z0-9._~-]{0,4})?){0,3}", fullmatch=True)  # no `.` and `..`


@given(st.sampled_from(["http", "https", "HTTPS"]), hosts, st.none() | st.integers(1, 65535), paths)
def test_a_normalised_url_means_itself(scheme: str, host: str, port: int | None, path: str) -> None:
    url = parse_server_url(f"{scheme}://{host}{'' if port is None else f':{port}'}{path}")
    assert parse_server_url(str(url)) == url
    assert parse_server_url(f"{url}/") == url


@given(hosts, st.integers(1, 65535), hosts, st.integers(1, 65535))
def test_two_servers_never_share_entries(host: str, port: int, other: str, other_port: int) -> None:
    one, two = parse_server_url(f"https://{host}:{port}"), parse_server_url(f"https://{other}:{other_port}")
    assert (one.service == two.service) is (one == two)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ledger.example.com",
        "ftp://h",
        "file:///etc/passwd",
        "https://",
        "https://.",
        "https:///path",
        "https://h:0",
        "https://h:99999",
        "https://h:port",
        "https://[::1",
        "https://h/?a=b",
        "https://h?",
        "https://h/#x",
        "https://h#",
        "https://a b",
        "https://h\n",
        "https://h/\x00",
        "https://h\u202e",
        "https://bücher.example",
        "https://h_x|y",
        "https://<host>",
    ],
)
def test_what_is_no_base_url_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_server_url(text)
    assert caught.value.code == "bad_url"
    assert "https://ledger.example.com" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{PASSWORD}@h",
        f"https://{PASSWORD}@h",
        f"ftp://user:{PASSWORD}@h",
        f"user:{PASSWORD}@h",
        f"https:/user:{PASSWORD}@h",
        f"https:user:{PASSWORD}@h",
        f"https:\\\\user:{PASSWORD}@h",
        f"https://user:{PASSWORD}@h:99999",
        f"https://user:{PASSWORD}@ h",
        f"https://h/?key={PASSWORD}",
        f"h?key={PASSWORD}",
        f"h#{PASSWORD}",
        f"https://[user:{PASSWORD}@h",
    ],
)
def test_a_refused_url_never_shows_the_password_in_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_server_url(text)
    assert PASSWORD not in f"{caught.value.message}{caught.value.hint}{caught.value.target}"


@given(st.text(max_size=40))
def test_whatever_is_typed_as_a_url_is_read_or_refused(text: str) -> None:
    try:
        url = parse_server_url(text)
    except UsageError:
        return
    assert url.host
    assert url.scheme in ("http", "https")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.9", "[::1]", "LOCALHOST"])
def test_a_url_of_this_machine_may_be_plain_http(host: str) -> None:
    url = parse_server_url(f"http://{host}:5001")
    assert check_transport(url, allow_http=False) == url


@pytest.mark.parametrize(
    "host",
    [
        "ledger.example.com",
        "10.0.0.1",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.1",
        "0.0.0.0",
        "[::2]",
    ],
)
def test_plain_http_to_another_machine_must_be_allowed(host: str) -> None:
    url = parse_server_url(f"http://{host}")
    with pytest.raises(UsageError) as caught:
        check_transport(url, allow_http=False)
    assert caught.value.code == "http_not_allowed"
    assert check_transport(url, allow_http=True) == url


def test_https_needs_no_leave() -> None:
    url = ServerUrl("https", "ledger.example.com", 443, "")
    assert check_transport(url, allow_http=False) == url
