"""Clients that come one after another, many at once, until told to stop; every failure is kept with its stage.

    with Load(port, clients=8) as load:
        load.wait_sessions(200)
        ... something terrible happens ...
    assert load.failures == []
"""

import threading
from collections import Counter

from kit.peer import connect
from kit.waiting import PATIENCE, Deadline


def echo_once(peer):
    """The shortest conversation: a question, its echo, FIN both ways; returns what greeted us before the echo."""
    peer.send(b"question\n").fin()
    answer = peer.read_to_end()
    assert peer.ended == "fin", f"{peer!r} ended by {peer.ended}"
    assert answer.endswith(b"question\n"), f"{peer!r} got {answer!r}"
    return answer[: -len(b"question\n")].strip()


class Load:
    """`failures` are (stage, error): "connect" when connect() itself failed, "session" when it had succeeded."""

    def __init__(self, port, clients=8, talk=echo_once, host="127.0.0.1", connect_seconds=PATIENCE):
        self._port, self._host, self._talk, self._connect_seconds = port, host, talk, connect_seconds
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self.done = 0
        self.answers = Counter()
        self.failures = []
        self._threads = [
            threading.Thread(target=self._run, name=f"load-{port}-{n}", daemon=True) for n in range(clients)
        ]

    def __repr__(self):
        return f"<Load on {self._port}: {self.done} done, {len(self.failures)} failed>"

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Let every client end the session it is in, and wait for that."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_sessions(self, count, seconds=PATIENCE):
        """Until that many sessions more have ended well."""
        deadline = Deadline(seconds)
        with self._changed:
            wanted = self.done + count
            while self.done < wanted:
                if not self._changed.wait(deadline.left):
                    raise TimeoutError(f"{self!r}: {wanted} were wanted; failures: {self.failures[:5]}")

    def failed_in(self, stage):
        return [error for where, error in self.failures if where == stage]

    def _run(self):
        while not self._stopping.is_set():
            stage = "connect"
            try:
                with connect(self._port, self._host, seconds=self._connect_seconds) as peer:
                    stage = "session"
                    answer = self._talk(peer)
            except (OSError, AssertionError) as error:
                self._stopping.wait(0.01)  # a refused connect comes back at once: no hot loop
                with self._changed:
                    self.failures.append((stage, error))
            else:
                with self._changed:
                    self.done += 1
                    self.answers[answer] += 1
                    self._changed.notify_all()
