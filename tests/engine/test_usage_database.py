"""The usage database, with a real PostgreSQL and what may happen to one."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import date

import pytest

from lossd.engine.usage_database import DatabaseError, UsageDatabase, check_url, shown_url
from lossd.engine.usage_store import FIELDS, Used, open_store, read_usage, total_usage
from stores import IN_URL, PASSWORD, Store, usage_database

DAY = "2026-03-01"
SINCE = date(2026, 3, 1)
SOME = dict(zip(FIELDS, (2.0, 160.0, 1000.0, 0.25), strict=True))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with usage_database() as found:
        yield found


@pytest.fixture
def url(server: Store) -> str:
    """Of an empty database."""
    import psycopg

    name = f"t{time.monotonic_ns()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.rpartition("/")[0] + f"/{name}"


class Line:
    """A line to a server that can be cut before its answer comes back.

    Attributes:
        port: Where it can be reached.
        cut_after: A text of the client's, which is passed on, but whose answer is not.
        cuts: How often it was cut.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_after: bytes | None = None
        self.cuts = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Close it, once all its clients have gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        muted = threading.Event()
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            back = threading.Thread(target=self._answer, args=(server, client, muted))
            back.start()
            while data := client.recv(1 << 16):
                cut = self.cut_after is not None and self.cut_after in data
                if cut:
                    muted.set()
                server.sendall(data)
                if cut:
                    time.sleep(0.5)  # the server has done it
                    self.cut_after = None
                    self.cuts += 1
                    break
            server.shutdown(socket.SHUT_RDWR)
            back.join(10)

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if not muted.is_set():
                    client.sendall(data)


def test_days_totals_are_sums_over_writers(url: str) -> None:
    with closing(open_store(url)) as one, closing(open_store(url)) as other:
        one.add({(DAY, "b"): SOME, ("2026-02-28", "b"): SOME})
        other.add({(DAY, "b"): SOME, (DAY, "a"): {"requests": 1.0}})
        one.add({("2026-03-02", "a"): SOME})
        one.add({})
    a, b = Used(DAY, "a", 1, 0, 0, 0.0), Used(DAY, "b", 4, 320, 2000, 0.5)
    later = Used("2026-03-02", "a", 2, 160, 1000, 0.25)
    assert read_usage(url, SINCE) == [a, b, later]
    assert read_usage(url, SINCE, "a") == [a, later]
    assert read_usage(url, SINCE, "c") == []


def test_before_anything_is_written_there_is_nothing(url: str) -> None:
    assert read_usage(url, SINCE) == []


def test_many_begin_at_once_and_none_waits_for_another_in_a_circle(url: str) -> None:
    teams = [f"team{number}" for number in range(30)]

    def write(number: int) -> None:
        with closing(UsageDatabase(url)) as store:
            for _ in range(5):
                ordered = teams if number % 2 else teams[::-1]
                store.add({(DAY, team): SOME for team in ordered})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    rows = read_usage(url, SINCE)
    assert len(rows) == 30
    assert {row.requests for row in rows} == {60}


def test_a_batch_whose_answer_was_lost_is_added_once(server: Store, url: str) -> None:
    with closing(Line(server.port)) as cut:
        there = url.replace(f":{server.port}/", f":{cut.port}/")
        with closing(UsageDatabase(there)) as store:
            store.add({(DAY, "a"): SOME})
            for text in (b"COMMIT", b"INSERT INTO usage AS old"):
                before = total_usage(read_usage(url, SINCE))["requests"]
                cut.cut_after = text
                with pytest.raises(DatabaseError):
                    store.add({(DAY, "a"): SOME})
                lost = total_usage(read_usage(url, SINCE))["requests"] - before
                assert lost == (2 if text == b"COMMIT" else 0)  # it was added, or was not
                store.add({(DAY, "a"): SOME})
                assert total_usage(read_usage(url, SINCE))["requests"] == before + 2
        assert cut.cuts == 2


def test_a_killed_server_is_found_again_with_all_that_it_confirmed(server: Store, url: str) -> None:
    with closing(UsageDatabase(url)) as store:
        store.add({(DAY, "a"): SOME})
        server.kill()
        with pytest.raises(DatabaseError):
            store.add({(DAY, "a"): SOME})
        server.start()
        ends = time.monotonic() + 30
        while True:
            try:
                store.add({(DAY, "a"): SOME})
                break
            except DatabaseError:  # it is still reading its log
                assert time.monotonic() < ends
                time.sleep(0.1)
        assert read_usage(url, SINCE) == [Used(DAY, "a", 4, 320, 2000, 0.5)]


def test_a_stopped_server_is_waited_for(server: Store, url: str) -> None:
    with closing(UsageDatabase(url)) as store, ThreadPoolExecutor(1) as pool:
        store.add({(DAY, "a"): SOME})
        server.signal(signal.SIGSTOP)
        writing = pool.submit(store.add, {(DAY, "a"): SOME})
        time.sleep(1.0)
        assert not writing.done()
        server.signal(signal.SIGCONT)
        writing.result(20)
        assert read_usage(url, SINCE) == [Used(DAY, "a", 4, 320, 2000, 0.5)]


def test_a_role_that_may_only_write_needs_no_more(server: Store, url: str) -> None:
    import psycopg

    with closing(UsageDatabase(url)) as store:
        store.add({})
    with psycopg.connect(url, autocommit=True) as connection:
        role = f"writer{os.getpid()}"
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON usage, usage_writers TO {role}")
    other = url.replace(f"lossd:{IN_URL}@", f"{role}:x@")
    with closing(UsageDatabase(other)) as store:
        store.add({(DAY, "a"): SOME})
    assert total_usage(read_usage(other, SINCE))["requests"] == 2


def test_no_text_shows_the_password(server: Store) -> None:
    wrong = server.url.replace("lossd:", "nobody:")
    with pytest.raises(DatabaseError) as caught:
        read_usage(wrong, SINCE)
    assert "nobody" in str(caught.value)
    for text in (str(caught.value), shown_url(server.url)):
        assert PASSWORD not in text
        assert IN_URL not in text
    broken = "postgresql://lossd:p%ss@127.0.0.1/x"
    said = check_url(broken)
    assert said is not None
    assert "p%ss" not in said
