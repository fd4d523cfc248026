"""A client that connects with TLS 1.3, asks for one page over http, hears the answer to its end and goes; again and again.

`python -m benchmarks.helpers.tls_client PORT SECONDS` writes "ready", waits for a line, and in the end writes
{"count": …, "seconds": …}. It knows no session to resume: each connection is a full handshake.
"""

import json
import socket
import ssl
import sys

from benchmarks.waiting import now

REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def main(port: int, seconds: float) -> None:
    start = started()
    count = connect_until(port, start + seconds)
    sys.stdout.write(json.dumps({"count": count, "seconds": now() - start}))


def started() -> float:
    """When we are told to."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    return now()


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def connect_until(port: int, end: float) -> int:
    context, count = client_context(), 0
    while now() < end:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20)) as sock:
            sock.sendall(REQUEST)
            answer = sock.recv(4096)
            while more := sock.recv(4096):
                answer += more
            sock.unwrap()  # says close_notify, as a browser does; else the proxy has an end to judge
            if sock.session_reused or not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"a new connection was to be answered; it heard {answer[:40]!r}")
        count += 1
    return count


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
