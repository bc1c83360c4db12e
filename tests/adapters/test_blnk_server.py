"""`BlnkServer` against recorded servers: which generation is it, does it guard its keys, how fast may it be asked."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blnkctl.adapters.blnk.server import BlnkServer
from blnkctl.adapters.blnk.transport import Connection, Transport
from blnkctl.domain.errors import Refused, ServerTrouble
from blnkctl.domain.generations import Generation
from blnkctl.domain.probes import ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import Response
from blnkctl.sandbox.wire import Server

CONTRACT = Path(__file__).parents[1] / "contract"
MASTER = "master-key-for-recordings"
GENERATIONS = {
    "0.10.8": Generation.BEFORE_0_12,
    "0.11.6": Generation.BEFORE_0_12,
    "0.12.0": Generation.FROM_0_12,
    "0.13.1": Generation.FROM_0_13_0,
    "0.13.2": Generation.FROM_0_13_2,
    "0.14.3": Generation.FROM_0_14_3,
    "0.14.5": Generation.FROM_0_14_3,
    "0.15.2": Generation.FROM_0_15,
}
INSECURE = ("0.11.6", "0.12.0", "0.14.5", "0.15.2")
LIMITED = ("0.12.0", "0.13.2", "0.15.2")

Request = tuple[str, str, str | None, str | None]
Replay = dict[Request, Response]


class PatientClock:
    """A clock that moves only when it is waited for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return a time that never changes."""
        return datetime(2026, 11, 23, tzinfo=UTC)

    def monotonic(self) -> float:
        """Return what was slept."""
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        """Do not wait."""
        self.slept.append(seconds)


def recorded(name: str) -> list[tuple[Request, Response]]:
    """Return a recording's exchanges."""
    exchanges = json.loads((CONTRACT / f"{name}.json").read_text())["exchanges"]
    return [(_asked(exchange["request"]), _answered(exchange["response"])) for exchange in exchanges]


def _asked(request: dict[str, Any]) -> Request:
    return request["method"], request["path"], request["headers"].get("X-Blnk-Key"), request["body"]


def _answered(response: dict[str, Any]) -> Response:
    body = (response["body"] or "").encode()
    kept = {name: value for name, value in response["headers"].items() if name != "Transfer-Encoding"}
    return Response(response["status"], tuple({**kept, "Content-Length": str(len(body))}.items()), body)


@pytest.fixture
def serve() -> Iterator[Callable[[Replay | list[Response]], str]]:
    """Return a function that answers as recorded: by the request, or in order."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(answers: Replay | list[Response]) -> str:
        def answer(method: str, target: str, headers: Mapping[str, str], body: bytes, _client: str) -> Response:
            if isinstance(answers, list):
                return answers.pop(0) if len(answers) > 1 else answers[0]
            return answers[method, target, headers.get("x-blnk-key"), body.decode() or None]

        server = Server(0, answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.002,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


@pytest.fixture
def clock() -> PatientClock:
    """Return a clock that nobody waits for."""
    return PatientClock()


@pytest.fixture
def connect(clock: PatientClock) -> Iterator[Callable[..., BlnkServer]]:
    """Return a function that makes the API of a URL."""
    opened: list[BlnkServer] = []

    def make(url: str, key: str = MASTER) -> BlnkServer:
        parsed = parse_server_url(url)
        opened.append(BlnkServer(parsed, Transport(Connection(parsed, 5.0), clock), lambda: Secret(key), clock))
        return opened[-1]

    yield make
    for server in opened:
        server.close()


def test_every_recording_of_a_generation_is_expected_to_be_one() -> None:
    assert {path.stem.removeprefix("generation-") for path in CONTRACT.glob("generation-*.json")} == set(GENERATIONS)
    assert {path.stem.removeprefix("insecure-") for path in CONTRACT.glob("insecure-*.json")} == set(INSECURE)
    assert {path.stem.removeprefix("limited-") for path in CONTRACT.glob("limited-*.json")} == set(LIMITED)


@pytest.mark.parametrize("core", GENERATIONS)
def test_a_recorded_server_is_told_by_its_answers(
    core: str, serve: Callable[[Replay], str], connect: Callable[..., BlnkServer]
) -> None:
    profile = connect(serve(dict(recorded(f"generation-{core}")))).profile()

    assert (profile.generation, profile.is_secure) == (GENERATIONS[core], True)


@pytest.mark.parametrize("core", GENERATIONS)
def test_a_recorded_server_refuses_a_wrong_admin_key(
    core: str, serve: Callable[[list[Response]], str], connect: Callable[..., BlnkServer]
) -> None:
    refusals = [answer for (_, _, key, _), answer in recorded(f"generation-{core}") if key == "wrong"]

    with pytest.raises(Refused) as refused:
        connect(serve(refusals), "wrong").profile()

    assert refused.value.code == "wrong_admin_key"


def _insecure(core: str) -> Replay:
    """Return what a server in insecure mode answers: as recorded, and as in secure mode where that was not."""
    replay = dict(recorded(f"generation-{core}")) | dict(recorded(f"insecure-{core}"))
    if not GENERATIONS[core].is_at_least(Generation.FROM_0_14_3):
        return replay
    return replay | {("GET", "/api-keys", MASTER, None): replay["GET", "/api-keys?owner=alice", MASTER, None]}


@pytest.mark.parametrize("core", INSECURE)
def test_a_recorded_server_without_secure_mode_is_told_as_such(
    core: str, serve: Callable[[Replay], str], connect: Callable[..., BlnkServer]
) -> None:
    profile = connect(serve(_insecure(core))).profile(check_secure=True)

    assert (profile.generation, profile.is_secure) == (GENERATIONS[core], False)


@pytest.mark.parametrize("core", LIMITED)
def test_a_recorded_limiter_is_waited_for(
    core: str, serve: Callable[[list[Response]], str], connect: Callable[..., BlnkServer], clock: PatientClock
) -> None:
    answers = [answer for _, answer in recorded(f"limited-{core}") if answer.status in (200, 429)]
    refusals = [answer for answer in answers if answer.status == 429]
    passed = next(answer for answer in answers if answer.status == 200)

    keys = list(connect(serve([refusals[0], refusals[0], passed])).list_keys("alice"))

    assert (keys, clock.slept) == ([], [1.0, 1.0])


@pytest.mark.parametrize("core", LIMITED)
def test_a_recorded_limiter_that_never_ends_is_given_up(
    core: str, serve: Callable[[list[Response]], str], connect: Callable[..., BlnkServer], clock: PatientClock
) -> None:
    refusals = [answer for _, answer in recorded(f"limited-{core}") if answer.status == 429]

    with pytest.raises(ServerTrouble) as given_up:
        list(connect(serve(refusals[:1])).list_keys("alice"))

    assert given_up.value.code == "rate_limited"
    assert clock.monotonic() <= 5.0


def test_a_recorded_limiter_announces_its_limit(
    serve: Callable[[list[Response]], str], connect: Callable[..., BlnkServer]
) -> None:
    limited = next(answer for _, answer in recorded("limited-0.15.2") if answer.status == 200)
    asked_without_owner = next(
        answer for (_, path, key, _), answer in recorded("generation-0.15.2") if (path, key) == ("/api-keys", MASTER)
    )
    headers = {**dict(asked_without_owner.headers), "X-Rate-Limit-Limit": limited.header("X-Rate-Limit-Limit") or ""}
    answer = Response(asked_without_owner.status, tuple(headers.items()), asked_without_owner.body)

    assert connect(serve([answer])).profile().rate_limit == 5.0


@pytest.mark.parametrize("core", ["0.11.6", "0.12.0", "0.13.2", "0.14.5", "0.15.2"])
def test_recorded_probes_are_understood(
    core: str, serve: Callable[[list[Response]], str], connect: Callable[..., BlnkServer]
) -> None:
    exchanges = json.loads((CONTRACT / f"api-keys-{core}.json").read_text())["exchanges"]
    answers = {exchange["name"]: _answered(exchange["response"]) for exchange in exchanges}
    told = {
        name: connect(serve([answers[name]])).probe(Secret("any")).verdict
        for name in answers
        if name.startswith("probe, ") and "HEAD" not in name
    }

    assert told == {
        "probe, good key on an unknown path": ProbeVerdict.AUTHENTICATED,
        "probe, bad key on an unknown path": ProbeVerdict.UNKNOWN_KEY,
        "probe, master on an unknown path": ProbeVerdict.UNDECIDED,
        "probe, expired key": ProbeVerdict.EXPIRED_OR_REVOKED,
    }


def test_an_owner_and_an_id_are_quoted_into_the_path(connect: Callable[..., BlnkServer], serve: Any) -> None:
    asked: list[str] = []

    class Everything(dict[Request, Response]):
        def __missing__(self, request: Request) -> Response:
            asked.append(request[1])
            return Response(200, (("Content-Length", "4"),), b"null")

    server = connect(serve(Everything()))

    assert list(server.list_keys("a&b=c/../é ?#%")) == []
    assert asked == ["/api-keys?owner=a%26b%3Dc%2F..%2F%C3%A9%20%3F%23%25"]
