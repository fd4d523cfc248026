"""How late bytes come: a target that sends each session the time, again and again, and clients who look how old it is.

python -m benchmarks.helpers.ticks serve PORT EVERY      EVERY milliseconds to each session, one after another
python -m benchmarks.helpers.ticks hear PORT SESSIONS    for each line on standard input: the longest that each session was
                                                         late since the line before, in ms, as JSON: p50, p99 and the most
"""

import contextlib
import json
import resource
import select
import socket
import struct
import sys
import time

TICK = struct.Struct("<q")  # of the monotonic clock, nanoseconds
STEPS = 10  # parts of the sessions, one after another in each period


def serve(port: int, every: float) -> None:
    sessions: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
        listening.setblocking(False)
        step = 0
        while True:
            due = time.monotonic() + every / 1000 / STEPS
            with contextlib.suppress(BlockingIOError):
                while True:
                    sessions.append(listening.accept()[0])
            for sock in sessions[step % STEPS :: STEPS]:
                try:
                    sock.send(TICK.pack(time.monotonic_ns()), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except OSError:  # it has ended
                    sessions.remove(sock)
            step += 1
            select.select([], [], [], max(0.0, due - time.monotonic()))


def hear(port: int, count: int) -> None:
    poll, late = select.epoll(), dict[int, int]()
    socks = {}
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        socks[sock.fileno()] = sock
        late[sock.fileno()] = 0
        poll.register(sock, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    say({"sessions": count})
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                if not sys.stdin.readline():
                    return
                found = sorted(late.values())
                say({"p50": found[count // 2] / 1e6, "p99": found[int(count * 0.99)] / 1e6, "most": found[-1] / 1e6})
                late = dict.fromkeys(late, 0)
                continue
            data = socks[fd].recv(65536)
            if not data:
                raise ConnectionError("a session has ended")
            if len(data) % TICK.size:
                raise ValueError("a session's bytes are out of step")
            late[fd] = max(late[fd], time.monotonic_ns() - TICK.unpack_from(data)[0])


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    {"serve": serve, "hear": hear}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
