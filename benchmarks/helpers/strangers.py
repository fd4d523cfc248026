"""Clients of ever new addresses of 127.0.0.0/8, one after another, each of which comes twice and waits to be greeted.

`python -m benchmarks.helpers.strangers PORT SECONDS FIRST` writes {"new": [seconds, …], "known": [seconds, …]}: from before
connect() to the first byte. FIRST is the number of the first address.
"""

import json
import socket
import sys

from benchmarks.waiting import now

WARM = 20  # clients that are not counted


def main(port: int, seconds: float, first: int) -> None:
    new: list[float] = []
    known: list[float] = []
    number, end = first, now() + seconds
    while now() < end or len(new) <= WARM:
        number += 1
        host = f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        new.append(visit(host, port))
        known.append(visit(host, port))
    sys.stdout.write(json.dumps({"new": new[WARM:], "known": known[WARM:]}))


def visit(host: str, port: int) -> float:
    with socket.socket() as sock:
        sock.settimeout(20)
        sock.bind((host, 0))
        start = now()
        sock.connect(("127.0.0.1", port))
        if not sock.recv(1):
            raise ConnectionError("the connection ended before the greeting")
        return now() - start


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
