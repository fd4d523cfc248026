"""What it costs that a session moves, in CPU, at both ends together and at each.

    PYTHONPATH=.:tests python -m tests.dataplane.moving.cost [SESSIONS] [ROUNDS]

Idle sessions of two workers in one thread, all of them there and back again; the median of the rounds.
"""

import contextlib
import gc
import socket
import statistics
import sys
import time

from tests.dataplane.moving.two_workers import TwoWorkers


def main(count, rounds):
    with TwoWorkers() as two:
        peers = _peers(two, count)
        gc.collect()
        gc.freeze()  # as a worker's, before it serves
        figures = [_move(two, *(two.sides[::-1] if number % 2 else two.sides), count) for number in range(rounds)]
        ends = [statistics.median(found) / count * 1e6 for found in zip(*figures, strict=True)]
        sys.stdout.write(f"{sum(ends):.0f} us for each session: exporter {ends[0]:.0f}, importer {ends[1]:.0f}\n")
        for peer in peers:
            peer.close()


def _peers(two, count):
    """Both ends of so many sessions, which all relay."""
    clients, servers = [], []
    two.target.setblocking(False)

    def accepted():
        with contextlib.suppress(BlockingIOError):
            while True:
                servers.append(two.target.accept()[0])
        return len(servers) == len(clients)

    while len(clients) < count:
        clients.extend(socket.create_connection(two.listener.getsockname()) for _ in range(min(100, count - len(clients))))
        two.until(accepted)
    two.until(lambda: all(session.up is not None for session in two.first.sessions))
    return clients + servers


def _move(two, giver, taker, count):
    """Seconds of CPU of each."""
    used = {giver: 0.0, taker: 0.0}
    order = two.order(giver, taker)
    while not (giver.told and giver.told[-1].order == order):
        for side in used:
            began = time.thread_time()
            side.loop.run_once(0)
            used[side] += time.thread_time() - began
    assert giver.told[-1].moved == count
    return used[giver], used[taker]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]), *(1000, 10)[len(sys.argv) - 1 :])
