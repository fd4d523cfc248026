#!/bin/sh
# PROXY headers without an address, which proxies send for clients of UNIX sockets (HAProxy, nginx: "PROXY UNKNOWN", version 2: LOCAL)
# and for health checks, and which receivers must accept (proxy-protocol.txt, 2.1 and 2.2), at two servers in Python.
# The surprise: of the five forms gunicorn 27.0.1 (--proxy-protocol auto) serves one kind, LOCAL, and then gives the application
# None as REMOTE_ADDR, which WSGI wants to be text; UNKNOWN is 400 and UNSPEC is 500. Twisted 26.10 (haproxy:) takes all of version 2,
# but ends the connection for the plain "PROXY UNKNOWN", and takes it with addresses behind it. So a proxy that has no address to
# tell can be served by both only with version 2 and LOCAL.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install gunicorn==27.0.1 twisted==26.10.0
export PYTHONPATH=. HOME="$PWD"
cat > apps.py <<'END'
def wsgi(environ, start):
    body = repr(environ["REMOTE_ADDR"]).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
END
cat > with_twisted.py <<'END'
from twisted.internet import endpoints, protocol, reactor


class Peer(protocol.Protocol):
    def dataReceived(self, data):
        peer = getattr(self.transport.getPeer(), "host", None)
        self.transport.write(f"HTTP/1.1 200 OK\r\n\r\n{peer!r}".encode())
        self.transport.loseConnection()


endpoints.serverFromString(reactor, "haproxy:tcp:18462:interface=127.0.0.1").listen(protocol.Factory.forProtocol(Peer))
reactor.run()
END
cat > ask.py <<'END'
import socket, time

V2 = bytes.fromhex("0d0a0d0a000d0a515549540a")
HEADERS = {
    "v1 with an address": b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n",
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v1 UNKNOWN, addresses": b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1111 2222\r\n",
    "v2 with an address": V2 + bytes.fromhex("2111000cc0000207c0000208045708ae"),
    "v2 LOCAL": V2 + bytes.fromhex("20000000"),
    "v2 LOCAL, a TLV": V2 + bytes.fromhex("20000006040003616263"),
    "v2 UNSPEC": V2 + bytes.fromhex("21000000"),
}


def connect(port):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            time.sleep(0.1)


def ask(port, header):
    got = b""
    with connect(port) as sock:
        try:
            sock.sendall(header + b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while data := sock.recv(65536):
                got += data
        except ConnectionError:
            pass
    status = got[9:12].decode() or "ended"
    return (status, got.rpartition(b"\r\n\r\n")[2].decode()) if status == "200" else status


told, own, none = ("200", "'192.0.2.7'"), ("200", "'127.0.0.1'"), ("200", "None")
expected = {
    "gunicorn": [told, "400", "400", told, none, none, "500"],
    "Twisted": [told, "ended", own, told, own, own, own],
}
for port, name in ((18461, "gunicorn"), (18462, "Twisted")):
    seen = []
    for case, header in HEADERS.items():
        seen.append(ask(port, header))
        print(f"{name}: {case}: {seen[-1]}")
    assert seen == expected[name], seen
END
venv/bin/pip list 2>/dev/null | grep -iE "^(gunicorn|twisted) "
venv/bin/gunicorn apps:wsgi -b 127.0.0.1:18461 --proxy-protocol auto >log 2>&1 & servers=$!
venv/bin/python with_twisted.py >log 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
python3 ask.py
