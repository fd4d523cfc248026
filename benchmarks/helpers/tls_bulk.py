"""A client with TLS that moves as much as it can from or to a target that does the same (flood).

`python -m benchmarks.helpers.tls_bulk PORT SECONDS get|put` writes "ready", waits for a line, and in the end writes
{"count": bytes, "seconds": …}. So that the proxy is what is measured, and not its client: one that gets decrypts only the
beginning and throws the rest away as it comes, encrypted; one that puts sends many records in one call.
"""

import json
import socket
import ssl
import sys

from benchmarks.helpers.tls_client import client_context, started
from benchmarks.waiting import now

CHUNK = 1 << 18
Stream = tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]


def main(port: int, seconds: float, what: str) -> None:
    stream, work = connect(port), get if what == "get" else put
    start = started()
    count = work(stream, start + seconds)
    sys.stdout.write(json.dumps({"count": count, "seconds": now() - start}))


def connect(port: int) -> Stream:
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(come, go)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            exchange(sock, come, go)
        else:
            name, _, _ = tls.cipher() or ("", "", 0)
            if "GCM" not in name:
                raise ConnectionError(f"AES-GCM is to be measured, not {name}")
            return sock, tls, come, go


def exchange(sock: socket.socket, come: ssl.MemoryBIO, go: ssl.MemoryBIO) -> None:
    sock.sendall(go.read())
    data = sock.recv(CHUNK)
    if not data:
        raise ConnectionError("the connection has ended")
    come.write(data)


def get(stream: Stream, end: float) -> int:
    sock, tls, come, go = stream
    tls.write(b"g")
    first = b""
    while not first:
        try:
            first = tls.read(CHUNK)
        except ssl.SSLWantReadError:
            exchange(sock, come, go)
    if first.strip(b"\0"):
        raise ConnectionError("the target gives zeros, and something else came")
    count, buffer = 0, bytearray(CHUNK)
    while now() < end:
        size = sock.recv_into(buffer, CHUNK, socket.MSG_TRUNC)
        if not size:
            raise ConnectionError("the connection has ended")
        count += size
    return count


def put(stream: Stream, end: float) -> int:
    sock, tls, _, go = stream
    zeros, count = bytes(CHUNK), 0
    tls.write(b"p")
    while now() < end:
        left = memoryview(zeros)
        while left:
            left = left[tls.write(left) :]
        sock.sendall(go.read())
        count += CHUNK
    return count


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
