"""What every store of the state does, in memory or in a file. A test file makes the class its own:

class TestMemory(StoreContract):
    @contextmanager
    def store(self): ...
"""

import dataclasses
import threading

import pytest

from tcp_proxy.control.store.state import SavedServer, SavedTarget
from tcp_proxy.sansio.verdict import Known

WEB = SavedTarget("web", "192.0.2.1:80", "drain", 7, "down", 2, "tcp 192.0.2.1:80: refused", 1000.0)
FOUND = Known("q", False, 2, "tcp \ud800 refused"), Known("p", True, is_proven=False)
SERVERS = [SavedServer("web", "192.0.2.1:80", port, FOUND) for port in (0, 5001, 5002)]
NOW = 1_795_246_424.0  # what the store's clock says


class StoreContract:
    """`self.store()` is a context with an empty store in it, whose clock stands at NOW."""

    def test_it_begins_empty(self):
        with self.store() as store:
            assert store.load() == {}

    def test_what_is_saved_is_there_at_once(self):
        with self.store() as store:
            store.save(WEB)
            assert store.load() == {("web", "192.0.2.1:80"): WEB}

    def test_the_last_save_of_a_target_counts(self):
        with self.store() as store:
            store.save(WEB)
            store.save(dataclasses.replace(WEB, admin="ready"))
            assert [target.admin for target in store.load().values()] == ["ready"]

    def test_a_target_is_its_app_and_its_name(self):
        with self.store() as store:
            for app, target in (("a", "x"), ("a", "y"), ("b", "x"), ("ab", ""), ("", "ab")):
                store.save(SavedTarget(app, target))
            assert len(store.load()) == 5

    def test_who_wants_to_know_is_told_when_it_is_kept_once(self):
        with self.store() as store:
            told = threading.Semaphore(0)
            store.when_durable(told.release)
            store.save(WEB)
            store.when_durable(told.release)
            assert told.acquire(timeout=10)
            assert told.acquire(timeout=10)
            assert store.flush()
            assert not told.acquire(blocking=False)

    def test_servers_come_and_go_with_their_target_or_without(self):
        with self.store() as store:
            for server in SERVERS:
                store.save_server(server)
            assert store.servers("web", "192.0.2.1:80") == {server.port: server.checks for server in SERVERS}
            assert store.servers("web", "other") == {}
            store.forget_servers("web", "192.0.2.1:80", but=(5001, 80))
            assert list(store.servers("web", "192.0.2.1:80")) == [5001]
            store.forget("web", "192.0.2.1:80")
            assert store.servers("web", "192.0.2.1:80") == {}

    def test_forgotten_is_gone(self):
        with self.store() as store:
            store.save(WEB)
            store.forget("web", "192.0.2.1:80")
            store.forget("web", "192.0.2.1:80")
            store.forget("never", "known")
            assert store.load() == {}

    def test_what_is_loaded_is_the_caller_s(self):
        with self.store() as store:
            store.save(WEB)
            store.load().clear()
            assert len(store.load()) == 1

    @pytest.mark.parametrize(
        ("at", "kept"),
        [(NOW + 1, NOW), (1e300, NOW), (-5.0, 0.0), (float("inf"), 0.0), (float("nan"), 0.0), (NOW - 1, NOW - 1)],
    )
    def test_nothing_is_from_the_future(self, at, kept):
        with self.store() as store:
            store.save(dataclasses.replace(WEB, at=at))
            assert [target.at for target in store.load().values()] == [kept]

    @pytest.mark.parametrize(
        "wrong", [{"admin": "off"}, {"verdict": "dead"}, {"origin": "x"}, {"weight": -1}, {"results": 1 << 40}]
    )
    def test_what_could_not_be_read_back_is_not_taken(self, wrong):
        with self.store() as store:
            with pytest.raises(ValueError, match="web"):
                store.save(dataclasses.replace(WEB, **wrong))
            assert store.load() == {}

    @pytest.mark.parametrize("name", ["é\u2028", "a\0b", "\ud800", "", "x" * 100_000, "'; DROP TABLE targets; --"])
    def test_any_name_is_a_name(self, name):
        with self.store() as store:
            store.save(SavedTarget(name, name, evidence=name, definition=name))
            assert store.flush()
            assert store.load()[name, name].evidence == name

    def test_many_threads_may_save(self):
        with self.store() as store:

            def save(app):
                for i in range(50):
                    store.save(SavedTarget(app, str(i)))

            threads = [threading.Thread(target=save, args=(f"app{n}",), name=f"saver-{n}") for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert store.flush()
            assert len(store.load()) == 200

    def test_closed_twice_is_closed(self):
        with self.store() as store:
            store.save(WEB)
            store.close()
            store.close()
            assert list(store.load().values()) == [WEB]
