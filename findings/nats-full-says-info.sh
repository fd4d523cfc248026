#!/bin/sh
# NATS 2.9 (Debian 12) with max_connections = 2 and two clients.
# The surprise: the third client is greeted as any other, with the whole INFO (which is all that a health check needs to read), and
# only then told -ERR 'maximum connections exceeded' and closed; the monitoring port's /healthz is 200 and "ok". INFO without
# "ldm":true says that a NATS is there, not that it takes clients: a check has to read on, or to send CONNECT and PING.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q nats-server=2.9.10-1+b3 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -W "$package"; dpkg -x "$package" root; done
printf 'listen: 127.0.0.1:18442\nhttp: 127.0.0.1:18443\nmax_connections: 2\n' > nats.conf
root/usr/sbin/nats-server -c nats.conf >log 2>&1 &
server=$!
trap 'kill $server; wait; rm -rf "$folder"' EXIT
for _ in $(seq 50); do grep -q "Server is ready" log && break; sleep 0.1; done
cat > ask.py <<'END'
import socket, urllib.request

clients = []


def connect():
    sock = socket.create_connection(("127.0.0.1", 18442), 2)
    clients.append(sock)
    lines = sock.makefile("rb")
    found = [lines.readline()]
    sock.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
    found.append(lines.readline())
    return [found[0][:6].decode(), found[1].decode().strip()]


seen = [connect() for _ in range(3)]
for number, lines in enumerate(seen, 1):
    print(f"client {number}:", lines)
with urllib.request.urlopen("http://127.0.0.1:18443/healthz") as answer:
    health = (answer.status, answer.read().decode())
print("healthz:", health)
assert seen == [["INFO {", "PONG"], ["INFO {", "PONG"], ["INFO {", "-ERR 'maximum connections exceeded'"]], seen
assert health == (200, '{"status":"ok"}'), health
END
python3 ask.py
