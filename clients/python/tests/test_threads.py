"""Client among many threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

from clients.python.tests.askers import Clock
from clients.python.tests.fake_broker import INSTALL, FakeBroker
from tokenbroker.client import Client, Credentials

THREADS = 16
TURNS = 500


def test_threads_that_ask_while_all_changes_get_tokens_of_their_installs(
    broker: FakeBroker, clock: Clock
) -> None:
    """Installs come, leave, go stale and expire meanwhile; a mix-up would open another company's data."""

    def ask(number: int) -> None:
        install = str(number % 5)
        for _ in range(TURNS):
            assert client.token(install).install_id == install
            if number == 0:
                clock.now += 50

    with (
        Client(broker.target, credentials=Credentials.insecure(), clock=clock, max_installs=3) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for done in [pool.submit(ask, number) for number in range(THREADS)]:
            done.result()
        assert len(client._entries) <= 3


def test_closed_client_leaves_no_thread(broker: FakeBroker) -> None:
    """Whoever makes clients in tests must not collect them."""
    before = set(threading.enumerate())
    with Client(broker.target, credentials=Credentials.insecure(), watch=True) as client:
        client.token(INSTALL)
        broker.stream()
    assert [thread for thread in set(threading.enumerate()) - before if "watch" in thread.name] == []
