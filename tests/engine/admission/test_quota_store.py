"""Leases of a real store: sums, demands, servers that die, a store that forgets."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import redis

from certificates import make_certificate
from lossd.engine.admission.quota_shares import OTHERS, Asked
from lossd.engine.admission.quota_store import QuotaStore, StoreError
from lossd_client.local import free_port
from stores import IN_URL, PASSWORD, Store, quota_store

LIMIT = "0 a"

pytestmark = [pytest.mark.slow, pytest.mark.waits]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with quota_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def raw(server: Store) -> Iterator[redis.Redis]:
    """The store itself, which knows nothing."""
    with redis.Redis.from_url(server.url) as found:
        found.flushall()
        yield found


class Asker:
    """A server that asks for one limit or more, and holds what it was given."""

    def __init__(self, server: Store) -> None:
        self._store = QuotaStore(server.url)
        self.shares: dict[str, float] = {}
        self.servers = 0

    def ask(self, demands: Mapping[str, float] = {}, in_use: float = 0.0) -> float:
        """Ask; the share of LIMIT that it holds now."""
        asked = {OTHERS: Asked(0.0, 0.0, self.shares.get(OTHERS, 0.0))}
        for name, demand in demands.items():
            asked[name] = Asked(demand, in_use, self.share(name))
        self.servers, self.shares = self._store.lease(asked)
        return self.share()

    def share(self, name: str = LIMIT) -> float:
        return self.shares.get(name, self.shares.get(OTHERS, 0.0))

    def end(self) -> None:
        self._store.release()


@pytest.fixture
def askers(server: Store, raw: redis.Redis) -> Iterator[list[Asker]]:
    """Three, of which none asks for anything yet; the store has learnt."""
    found = [Asker(server) for _ in range(3)]
    ends = time.monotonic() + 1.3
    while time.monotonic() < ends:
        rounds(found, [0.0, 0.0, 0.0], 1)
        time.sleep(0.1)
    rounds(found, [0.0, 0.0, 0.0], 3)
    yield found
    for one in found:
        with suppress(StoreError):
            one.end()


def rounds(askers: list[Asker], demands: list[float], times: int = 3) -> list[float]:
    for _ in range(times):
        for one, demand in zip(askers, demands, strict=True):
            one.ask({LIMIT: demand} if demand else {})
            assert sum(other.share() for other in askers) <= 1.0 + 1e-9
    return [one.share() for one in askers]


def test_what_nobody_asks_for_is_shared_equally(askers: list[Asker]) -> None:
    assert [one.servers for one in askers] == [3, 3, 3]
    assert rounds(askers, [0, 0, 0]) == pytest.approx([1 / 3] * 3)


def test_demands_that_fit_are_met_and_the_rest_is_shared_equally(askers: list[Asker]) -> None:
    assert rounds(askers, [0.5, 0.1, 0]) == pytest.approx([0.5 + 0.4 / 3, 0.1 + 0.4 / 3, 0.4 / 3])


def test_demands_that_do_not_fit_are_met_in_proportion(askers: list[Asker]) -> None:
    assert rounds(askers, [6, 3, 1]) == pytest.approx([0.6, 0.3, 0.1])
    assert rounds(askers, [0, 3, 1]) == pytest.approx([0, 0.75, 0.25])
    assert rounds(askers, [0, 0, 0]) == pytest.approx([1 / 3] * 3)


def test_a_limit_that_nobody_asks_for_any_more_takes_no_room(askers: list[Asker], raw: redis.Redis) -> None:
    def room() -> int:
        fields: dict[bytes, bytes] = raw.hgetall("lossd:quotas")  # type: ignore[assignment] # it is not async
        return sum(map(len, fields.values()))

    before = room()
    rounds(askers, [6, 3, 1])
    assert room() > before
    rounds(askers, [0, 0, 0], 4)
    assert room() == before


def test_shares_never_add_up_to_more_than_one(askers: list[Asker], server: Store) -> None:
    draw = random.Random(5)
    for _ in range(300):
        one = draw.choice(askers)
        one.ask({name: draw.choice([0.001, 0.2, 1, 5]) for name in (LIMIT, "1 b") if draw.random() < 0.7})
        for name in (LIMIT, "1 b"):
            assert sum(other.share(name) for other in askers) <= 1.0 + 1e-9
        if draw.random() < 0.02:
            askers.remove(one)
            one.end()
            askers.append(Asker(server))


def test_what_is_in_flight_stays_leased(askers: list[Asker]) -> None:
    rounds(askers, [5, 0, 0])
    assert askers[0].ask({LIMIT: 0.9}, in_use=0.9) >= 0.9
    for _ in range(4):
        assert askers[0].ask({LIMIT: 0.9}, in_use=0.9) >= 0.9
        assert askers[1].ask({LIMIT: 9.0}) <= 0.1 + 1e-9
    for _ in range(3):
        askers[0].ask()
        askers[1].ask({LIMIT: 9.0})
    assert askers[1].share() == pytest.approx(1.0)


def test_a_server_that_is_silent_for_a_second_has_no_share(askers: list[Asker]) -> None:
    rounds(askers, [1, 1, 1])
    ends = time.monotonic() + 1.2
    while time.monotonic() < ends:
        rounds(askers[:2], [1, 1], 1)
        time.sleep(0.1)
    assert rounds(askers[:2], [1, 1]) == pytest.approx([0.5, 0.5])
    assert askers[0].servers == 2
    askers[1].end()
    askers[0].ask({LIMIT: 1})
    assert askers[0].share() == pytest.approx(1.0)


def test_a_store_that_has_forgotten_learns_before_it_gives_more(
    askers: list[Asker], raw: redis.Redis
) -> None:
    before = rounds(askers, [6, 3, 1])
    raw.flushall()
    after = rounds(askers[::-1], [6, 3, 1], 2)[::-1]  # whose share is the smallest asks first, for most
    assert all(now <= then + 1e-9 for now, then in zip(after, before, strict=True))
    ends = time.monotonic() + 1.3
    while time.monotonic() < ends:
        rounds(askers[::-1], [6, 3, 1], 1)
        time.sleep(0.1)
    assert rounds(askers[::-1], [6, 3, 1]) == pytest.approx([0.6, 0.3, 0.1])


def test_an_old_copy_of_the_store_is_not_believed(askers: list[Asker], raw: redis.Redis) -> None:
    rounds(askers, [6, 3, 1])
    copy = raw.dump("lossd:quotas")
    time.sleep(1.2)
    before = rounds(askers, [1, 1, 8], 1)
    raw.restore("lossd:quotas", 0, copy, replace=True)  # type: ignore[arg-type] # it is not async
    after = rounds(askers, [8, 1, 1], 3)
    assert all(now <= then + 1e-9 for now, then in zip(after, before, strict=True))


def test_leases_of_a_clock_that_was_ahead_end(askers: list[Asker], raw: redis.Redis) -> None:
    far = msgspec.msgpack.encode((time.time() + 3600, {"": (0.0, 0.9)}))
    raw.hset("lossd:quotas", "another", far)
    askers[0].ask()
    assert askers[0].servers == 3
    assert not raw.hexists("lossd:quotas", "another")


def test_a_store_that_hangs_or_is_gone_is_given_up_soon(server: Store, raw: redis.Redis) -> None:
    one = Asker(server)
    one.ask()
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"[Tt]imeout"):
        one.ask()
    assert time.monotonic() - began < 2.0
    server.signal(signal.SIGCONT)
    one.ask()
    server.kill()
    with pytest.raises(StoreError) as caught:
        one.ask()
    server.start()
    one.ask()  # the script is loaded again
    assert PASSWORD not in str(caught.value)


def test_a_wrong_password_is_said_but_not_shown(server: Store, tmp_path: Path) -> None:
    wrong = QuotaStore(server.url.replace(IN_URL, "wr0ng"))
    with pytest.raises(StoreError) as caught:
        wrong.lease({OTHERS: Asked(0.0, 0.0, 0.0)})
    assert "wr0ng" not in str(caught.value)
    assert "wr0ng" not in wrong.shown
    assert str(server.port) in wrong.shown


def test_a_store_may_ask_for_tls_or_be_a_socket(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path, "store")
    port, path = free_port(), tmp_path / "socket"
    tls = (f"tls-port {port}", f"tls-cert-file {chain}", f"tls-key-file {key}", "tls-auth-clients no")
    with quota_store(tmp_path, *tls, f"unixsocket {path}"):
        safe = f"rediss://:{IN_URL}@127.0.0.1:{port}/0"
        for url in (f"{safe}?ssl_ca_certs={chain}", f"unix://:{IN_URL}@{path}?db=0"):
            store = QuotaStore(url)
            assert store.lease({OTHERS: Asked(0.0, 0.0, 0.0)}).servers == 1
            store.release()
            assert IN_URL not in store.shown
        stranger = QuotaStore(safe)
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.lease({OTHERS: Asked(0.0, 0.0, 0.0)})


def test_an_option_that_there_is_not_is_refused_before_the_store_is_asked() -> None:
    with pytest.raises(ValueError, match="foo"):
        QuotaStore(f"redis://:{IN_URL}@127.0.0.1:1/0?foo=1")
