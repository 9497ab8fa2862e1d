"""Whose connections there may be, and who gives way: the counts alone, of peers that say if they are idle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from lossd.api.http.connections import Connections
from lossd.api.http.request import UNIX_CLIENT
from lossd.setting_types import UNIX
from lossd.settings import Settings
from lossd.types import RequestError

MOST = 64
RESERVED = 16
SHARE = 32


class Peer:
    """A connection, from an address and perhaps with a request that is not answered yet."""

    looked_at = 0

    def __init__(self, host: str = "10.0.0.1", since: float = 0.0, *, busy: bool = False) -> None:
        self.client: tuple[str, int] | None = (host, 1)
        self.owner = self.team = ""
        self.idle_since = since
        self.busy = busy
        self.served = False
        self.told = ""

    @property
    def dispensable(self) -> bool:
        Peer.looked_at += 1
        return not self.team or not self.busy

    def give_way(self, error: RequestError) -> None:
        self.told = error.detail

    def look(self, now: float, seconds: float) -> None:
        """Nothing is looked at here."""


class Front:
    """The connections of a front end, and what is said about them."""

    def __init__(self, *, teams: bool = True, most: int = MOST, **given: object) -> None:
        path = Path("/dev/null") if teams else None
        settings = Settings.model_validate(
            {"teams": path, "max_connections": most, "reserved_connections": RESERVED, **given}
        )
        self.all = Connections(settings, most, self)
        self.count = 0
        self.refused = Counter[str]()

    def connected(self, change: int) -> None:
        self.count += change

    def refused_connection(self, reason: str) -> None:
        self.refused[reason] += 1

    def claimed(self, team: str, peers: Iterable[Peer]) -> list[bool]:
        """Let peers connect, and each show a key at once."""
        found = []
        for peer in peers:
            assert self.all.begin(peer) is None
            found.append(self.all.claim(peer, team))
            if not found[-1]:
                self.all.end(peer)
        return found


def busy(number: int) -> list[Peer]:
    return [Peer(busy=True) for _ in range(number)]


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("10.0.0.7", "address 10.0.0.7"),
        ("::ffff:10.0.0.7", "address 10.0.0.7"),
        ("2001:db8:1:2:3::4", "address 2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address fe80::/64"),
        ("10.1.2.3", "proxy 10.1.2.3"),
        ("", "address unknown"),
    ],
)
def test_a_connection_is_its_address_s_then_its_team_s(host: str, owner: str) -> None:
    front, peer = Front(trusted_proxies="10.1.0.0/16"), Peer(host)
    assert front.all.begin(peer) is None
    assert peer.owner == owner
    for team in ("vision", "speech"):
        assert front.all.claim(peer, team)
        assert (peer.owner, peer.team) == (f"team {team}", team)
    front.all.end(peer)
    front.all.end(peer)
    assert front.count == 0


def test_a_team_holds_its_share_and_an_idle_one_goes_back_to_its_address() -> None:
    front, peers = Front(), busy(SHARE)
    assert all(front.claimed("a", peers))
    assert front.claimed("a", busy(1)) == [False]
    assert "team a uses its share of the connections, 32 at a time" in front.all.refuse("a").detail
    peers[7].busy, peers[7].idle_since = False, 2.0
    peers[5].busy, peers[5].idle_since = False, 1.0
    while front.claimed("a", [Peer("10.0.0.2")]) == [False]:  # it looks again after a moment
        pass
    assert (peers[5].owner, peers[7].owner) == ("address 10.0.0.1", "team a")
    assert not any(peer.told for peer in peers)
    assert front.refused == {"team_share": 1}


def test_two_teams_leave_places_for_others_and_for_those_who_have_just_come() -> None:
    front = Front()
    for team in ("a", "b"):
        front.claimed(team, busy(SHARE))
    assert front.count == MOST - RESERVED
    assert front.claimed("b", busy(1)) == [False]
    assert front.all.refuse("b").detail.startswith("the server has reached")
    small = [front.claimed(team, busy(1)) == [True] for team in "cdefghijklmnopqrst"]
    assert sum(small) == RESERVED // 2
    newcomers = [Peer(f"10.0.1.{number}") for number in range(100)]
    for peer in newcomers:
        assert front.all.begin(peer) is None
    assert front.count == MOST
    assert sum(not peer.told for peer in newcomers) == RESERVED // 2
    assert not any(peer.told for peer in newcomers[-RESERVED // 2 :])


def test_an_idle_connection_of_the_largest_team_makes_room_for_smaller_ones() -> None:
    front, large = Front(), busy(SHARE)
    front.claimed("a", large)
    front.claimed("b", busy(RESERVED - 2))
    small = busy(2)
    assert front.claimed("c", small) == [True, True]
    assert front.claimed("c", busy(1)) == [False]
    large[3].busy = False
    while front.claimed("c", busy(1)) == [False]:  # it looks again after a moment
        pass
    assert large[3].owner == "address 10.0.0.1"
    assert not large[3].told


def test_an_address_displaces_its_own_and_a_newcomer_the_one_idle_longest() -> None:
    front = Front()
    honest = Peer("10.0.0.2", since=5.0)
    flood = [Peer("10.0.0.1", since=10.0 + number) for number in range(300)]
    assert front.all.begin(honest) is None
    for peer in flood:
        assert front.all.begin(peer) is None
    assert honest.told == ""
    assert [bool(peer.told) for peer in flood] == [True] * (300 - SHARE) + [False] * SHARE
    assert front.refused == {"address_share": 300 - SHARE}
    others = [Peer(f"10.0.1.{number}", since=1000.0 + number) for number in range(MOST - SHARE)]
    for peer in others:
        assert front.all.begin(peer) is None
    assert honest.told  # it was idle longest
    assert front.refused["displaced"] == 1
    assert not any(peer.told for peer in others)


def test_a_proxy_has_no_share() -> None:
    front = Front(trusted_proxies="10.0.0.9")
    assert [front.all.begin(Peer("10.0.0.9")) for _ in range(MOST)] == [None] * MOST
    assert not front.refused


def test_without_teams_all_but_the_reserved_is_everyone_s() -> None:
    front = Front(teams=False)
    assert all(front.claimed("default", busy(MOST - RESERVED)))
    assert front.claimed("default", busy(1)) == [False]
    assert [front.all.begin(Peer()) for _ in range(MOST)] == [None] * MOST


def test_a_single_connection_is_lent_to_one_after_the_other() -> None:
    front, peers = Front(most=1), busy(3)
    assert front.all.begin(peers[0]) is None
    assert front.all.claim(peers[0], "a")
    error = front.all.begin(peers[1])
    assert error is not None
    assert error.code == "overloaded"
    assert front.count == 1
    front.all.end(peers[1])
    front.all.end(peers[0])
    assert front.all.begin(peers[2]) is None
    assert front.count == 1


def test_a_lost_connection_is_nobody_s_whatever_it_claims() -> None:
    front, peer = Front(), Peer()
    front.all.begin(peer)
    front.all.end(peer)
    assert front.all.claim(peer, "a")
    assert (peer.team, front.count) == ("", 0)


def test_who_is_refused_again_and_again_costs_no_search_each_time() -> None:
    front = Front(most=4096, reserved_connections=256)
    assert all(front.claimed("a", busy(2048)))
    Peer.looked_at = 0
    assert not any(front.claimed("a", busy(1000)))
    assert Peer.looked_at < 50 * 2048


def test_callers_at_the_unix_socket_are_one_address() -> None:
    front, unix = Front(), [Peer(UNIX, busy=True) for _ in range(SHARE + 1)]
    for peer in unix:
        peer.client = UNIX_CLIENT
        assert front.all.begin(peer) is None
    assert {peer.owner for peer in unix} == {"address unix:"}
    assert [bool(peer.told) for peer in unix] == [True] + [False] * SHARE
    assert front.refused == {"address_share": 1}
    assert front.all.claim(unix[1], "vision")
    assert unix[1].owner == "team vision"


def test_a_proxy_at_the_unix_socket_holds_any_number() -> None:
    front, unix = Front(trusted_proxies="10.0.0.2,unix:"), [Peer(UNIX, busy=True) for _ in range(SHARE + 1)]
    for peer in unix:
        peer.client = UNIX_CLIENT
        assert front.all.begin(peer) is None
    assert {peer.owner for peer in unix} == {"proxy unix:"}
    assert front.refused == {}
    assert front.all.is_proxy(unix[0])
    assert not front.all.is_proxy(Peer())
