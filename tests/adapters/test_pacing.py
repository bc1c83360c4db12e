"""`Pacer` against the sandbox's own limiter: how much passes of what could, and how little is refused."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from blnkctl.adapters.blnk.pacing import Notice, Pacer, read_notice
from blnkctl.adapters.blnk.server import BlnkServer
from blnkctl.adapters.blnk.transport import Connection, Request, Transport
from blnkctl.domain.errors import ServerTrouble
from blnkctl.domain.keys import KeySpec
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import parse_server_url
from blnkctl.sandbox import RateLimit, Response
from blnkctl.system.clock import SystemClock
from tests.adapters.limiter_bench import PATIENCE, START, Bench, Program, SharedClock
from tests.conftest import ADMIN_KEY
from tests.trouble import Exchange, Fault, Troubled, start_troubled, with_body

__all__ = ["start_troubled"]

LIMITS = [RateLimit(50, 100), RateLimit(20, 40), RateLimit(50, 50), RateLimit(200, 400), RateLimit(5, 8)]
SPEC = KeySpec("billing", "acme", ("ledgers:read",), datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=7))


def limits(limit: RateLimit) -> str:
    """Name a case."""
    return f"{limit.per_second:g} a second, {limit.burst} at once"


# --- a limiter that announces itself --------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4, 8])
@pytest.mark.parametrize("limit", LIMITS, ids=limits)
def test_a_limiter_that_announces_itself_is_never_overrun(limit: RateLimit, threads: int) -> None:
    bench = Bench(limit)

    (program,) = bench.run(20, threads=threads)

    assert program.refused == 0
    assert bench.share([program], 20) >= 0.99


def test_a_server_far_away_is_kept_as_busy() -> None:
    bench = Bench(RateLimit(50, 100), latency=0.08)

    (program,) = bench.run(20)

    assert program.refused == 0
    assert bench.share([program], 20) >= 0.99


@pytest.mark.parametrize("limit", LIMITS[:4], ids=limits)
def test_two_programs_share_a_limiter_that_announces_itself_fairly(limit: RateLimit) -> None:
    bench = Bench(limit)

    programs = bench.run(20, threads=4, programs=2)

    assert bench.share(programs, 20) >= 0.99
    assert max(program.refusals for program in programs) < 0.02
    assert min(program.passed for program in programs) > 0.4 * sum(program.passed for program in programs)


def test_a_command_of_a_few_requests_never_waits_where_the_limiter_lets_it_through() -> None:
    bench = Bench(RateLimit(5, 8))
    program = Program(Pacer(bench.clock))

    def ask_eight_times() -> None:
        for _ in range(8):
            bench.ask(program, START + PATIENCE)

    bench.clock.run([ask_eight_times])

    assert (program.passed, program.refused) == (8, 0)
    assert bench.clock.monotonic() - START < 0.1


# --- a limiter that says nothing ------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4, 8])
@pytest.mark.parametrize("limit", LIMITS[:4], ids=limits)
def test_a_limiter_that_says_nothing_is_learned_from_few_refusals(limit: RateLimit, threads: int) -> None:
    bench = Bench(limit, announces=False)

    (program,) = bench.run(60, threads=threads)

    assert bench.share([program], 60) >= 0.97
    assert program.refusals < 0.02


@pytest.mark.parametrize("limit", LIMITS[:4], ids=limits)
def test_two_programs_starve_neither_where_a_limiter_says_nothing(limit: RateLimit) -> None:
    bench = Bench(limit, announces=False)

    programs = bench.run(60, threads=4, programs=2)

    assert bench.share(programs, 60) >= 0.97
    assert min(program.passed for program in programs) > 0.25 * sum(program.passed for program in programs)
    assert max(program.refusals for program in programs) < 0.1


def test_a_limiter_of_a_small_bucket_is_not_taken_for_a_slow_one() -> None:
    bench = Bench(RateLimit(50, 5), announces=False)

    (program,) = bench.run(60)

    assert bench.share([program], 60) >= 0.9


def test_after_a_rest_a_learned_limiter_is_as_fast_as_before() -> None:
    bench = Bench(RateLimit(50, 100), announces=False)
    program = Program(Pacer(bench.clock))

    def ask(until: float) -> None:
        while bench.clock.monotonic() < until:
            bench.ask(program, until + PATIENCE)

    def work() -> None:
        ask(START + 20)
        bench.clock.sleep(600)
        passed_before = program.passed
        ask(START + 640)
        assert program.passed - passed_before > 0.9 * 50 * 20

    bench.clock.run([work])

    assert program.refusals < 0.02


def test_who_is_refused_by_a_proxy_follows_it_whatever_the_server_announces() -> None:
    bench = Bench(RateLimit(50, 100))
    pacer, clock = Pacer(bench.clock), bench.clock
    counts = {200: 0, 429: 0}

    def work() -> None:
        while clock.monotonic() < START + 60:
            turn = pacer.take("/api-keys", START + 120)
            assert turn is not None
            clock.sleep(0.004)
            passes = bench.limiter.take("proxy", "/api-keys") is not None
            counts[200 if passes else 429] += 1
            pacer.settle(turn, Notice(False, 5e6, 10_000_000) if passes else Notice(True))

    clock.run([work])

    assert counts[200] > 0.97 * (100 + 60 * 50)
    assert counts[429] < 0.02 * counts[200]


# --- waiting --------------------------------------------------------------------------------------


def test_no_sleep_is_longer_than_a_second_so_that_a_signal_is_heard() -> None:
    bench = Bench(RateLimit(0.1, 1))
    program = Program(Pacer(bench.clock))

    def ask_three_times() -> None:
        for _ in range(3):
            bench.ask(program, START + PATIENCE)

    bench.clock.run([ask_three_times])

    assert (program.passed, program.refused) == (3, 0)
    assert 20 <= bench.clock.monotonic() - START < 21
    assert bench.clock.longest_sleep <= 1.0


def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    given_up: list[bool] = []
    clock = SharedClock()
    pacer = Pacer(clock)
    turn = pacer.take("/api-keys", START + 5)
    assert turn is not None
    pacer.settle(turn, Notice(False, 0.1, 0))

    clock.run([lambda: given_up.append(pacer.take("/api-keys", START + 5) is None)])

    assert given_up == [True]
    assert clock.monotonic() == START + 5


def test_each_path_has_a_bucket_of_its_own_and_not_all_are_remembered() -> None:
    clock = SharedClock()
    pacer = Pacer(clock)

    for number in range(20_000):
        turn = pacer.take(f"/api-keys/api_key_{number}", START)
        assert turn is not None
        pacer.settle(turn, Notice(False, 0.5, 0))

    assert pacer.take("/api-keys/api_key_19999", START) is None
    assert pacer.take("/api-keys/api_key_0", START) is not None


@pytest.mark.parametrize(
    ("rate", "remaining"),
    [
        ("", "3"),
        ("5.00", ""),
        ("nan", "3"),
        ("inf", "3"),
        ("0.00", "0"),
        ("-1", "3"),
        ("5", "-3"),
        ("five", "3"),
        ("5", "1e3"),
        ("5", "9" * 400),
        ("5", "9" * 5000),
    ],
)
def test_an_odd_announcement_is_none(rate: str, remaining: str) -> None:
    assert read_notice(200, {"x-rate-limit-limit": rate, "ratelimit-remaining": remaining}) == Notice(False)


def test_what_a_gateway_counts_by_the_minute_is_not_taken_for_a_second() -> None:
    assert read_notice(429, {"ratelimit-limit": "60", "ratelimit-remaining": "0"}) == Notice(True)


# --- threads over one server ----------------------------------------------------------------------

Serve = Callable[..., Troubled]


@pytest.fixture
def connect() -> Iterator[Callable[..., BlnkServer]]:
    """Return a function that makes the API of a server, whose admin key is fetched by `fetch`."""
    opened: list[BlnkServer] = []

    def make(server: Troubled, fetch: Callable[[], Secret] = lambda: Secret(ADMIN_KEY), **how: object) -> BlnkServer:
        url = parse_server_url(server.url)
        connection = Connection(url, 30.0, **how)  # type: ignore[arg-type]
        opened.append(BlnkServer(url, Transport(connection, SystemClock()), fetch, SystemClock()))
        return opened[-1]

    yield make
    for server in opened:
        server.close()


def together(count: int, work: Callable[[int], None]) -> None:
    """Run work in threads, and raise what one of them raised."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def without_announcements(exchange: Exchange) -> Response:
    """Answer as a proxy does that takes the limiter's headers away."""
    answer = exchange.forward()
    kept = tuple(header for header in answer.headers if "limit" not in header[0].lower())
    return Response(answer.status, kept, answer.body)


@pytest.mark.parametrize(
    ("fault", "refusals"), [(None, 0.0), (without_announcements, 0.1)], ids=["announced", "stripped"]
)
def test_eight_threads_make_keys_as_fast_as_a_limiter_allows(
    fault: Fault | None, refusals: float, start_troubled: Serve, connect: Callable[..., BlnkServer]
) -> None:
    troubled = start_troubled(rate_limit=RateLimit(50, 50))
    if fault is not None:
        troubled.upset(fault)
    server = connect(troubled)
    until = monotonic() + 3
    made: list[str] = []

    def work(_: int) -> None:
        while monotonic() < until:
            made.append(server.create(SPEC).key.id)

    together(8, work)

    assert len(set(made)) == len(made) >= 0.8 * (50 + 3 * 50)
    assert troubled.count("POST") - len(made) <= refusals * len(made)


def test_eight_threads_fetch_the_admin_key_once_and_keep_their_connections(
    start_troubled: Serve, connect: Callable[..., BlnkServer]
) -> None:
    troubled = start_troubled()
    fetched: list[int] = []
    used: set[int] = set()

    def fetch() -> Secret:
        fetched.append(1)
        return Secret(ADMIN_KEY)

    def note(exchange: Exchange) -> Response:
        used.add(exchange.connection.getpeername()[1])
        return exchange.forward()

    troubled.upset(note)
    server = connect(troubled, fetch)

    def work(_: int) -> None:
        for _ in range(10):
            assert list(server.list_keys("acme")) == []

    together(8, work)

    assert len(fetched) == 1
    assert len(used) <= 8


def test_a_probe_over_a_connection_of_its_own_cuts_nobody_off(
    start_troubled: Serve, connect: Callable[..., BlnkServer]
) -> None:
    troubled = start_troubled()
    arrived, probed = threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> Response:
        arrived.set()
        assert probed.wait(10)
        return exchange.forward()

    troubled.upset(hold, "GET", r"/api-keys\?owner=acme")
    server = connect(troubled)

    def work(number: int) -> None:
        if number == 0:
            assert list(server.list_keys("acme")) == []
            return
        assert arrived.wait(10)
        for _ in range(3):
            server.probe(Secret("some-key"), fresh_connection=True)
        probed.set()

    together(2, work)


def test_each_of_many_keys_is_masked_in_its_own_answer(start_troubled: Serve) -> None:
    troubled = start_troubled()

    def say_it_back(exchange: Exchange) -> Response:
        if exchange.headers["x-blnk-key"].startswith("slow"):
            assert others_are_done.wait(20)
        return with_body(exchange.forward(), json.dumps({"error": exchange.headers["x-blnk-key"]}).encode())

    done: list[int] = []
    others_are_done = threading.Event()
    troubled.upset(say_it_back)
    transport = Transport(Connection(parse_server_url(troubled.url), 30.0), SystemClock())

    def work(number: int) -> None:
        if number == 0:
            assert transport.ask(Request("GET", "/x", Secret("slow-secret"))).error == "********"
            return
        for turn in range(50):
            assert transport.ask(Request("GET", "/x", Secret(f"key-{number}-{turn}"))).error == "********"
        done.append(number)
        if len(done) == 3:
            others_are_done.set()

    try:
        together(4, work)
    finally:
        transport.close()


def test_a_limiter_that_stays_at_zero_ends_every_thread(start_troubled: Serve) -> None:
    troubled = start_troubled(rate_limit=RateLimit(0.001, 1))
    transport = Transport(Connection(parse_server_url(troubled.url), 0.7), SystemClock())
    codes: list[str] = []
    begun = monotonic()

    def work(_: int) -> None:
        for _ in range(2):
            try:
                transport.ask(Request("GET", "/api-keys", Secret(ADMIN_KEY)))
            except ServerTrouble as trouble:
                codes.append(trouble.code)

    together(4, work)
    transport.close()

    assert codes == ["rate_limited"] * 7
    assert monotonic() - begun < 7
