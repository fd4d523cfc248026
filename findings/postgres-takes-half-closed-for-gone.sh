#!/bin/sh
# PostgreSQL 15 (Debian 12), a client that sends a query of a second, ends its own direction, and waits for the answer.
# The surprise: with client_connection_check_interval, "the interval between optional checks that the client is still connected",
# such a client is not: its query is cancelled and the connection closed with a FIN, without an ErrorResponse (the server's log has
# "connection to client lost"). Without it the client gets its rows. So the setting that frees a server of clients that are gone also
# decides whether a half-close that a proxy passes on is a way to ask or a way to give up.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q postgresql-15=15.18-0+deb12u1 libpq5 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
dpkg-deb -W postgresql-15*.deb
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu"
bin=root/usr/lib/postgresql/15/bin
as=""
mkdir data
if [ "$(id -u)" = 0 ]; then as="runuser -u nobody --"; chown nobody data; chmod -R a+rX .; fi
$as $bin/initdb -D data -A trust -U postgres -N >/dev/null
cat > ask.py <<'END'
import socket, struct, sys, time

START = b"user\0postgres\0database\0postgres\0\0"
QUERY = b"select pg_sleep(1), 'the answer'\0"


def ask():
    for _ in range(100):
        try:
            sock = socket.create_connection(("127.0.0.1", 18487), 10)
            break
        except OSError:
            time.sleep(0.1)
    with sock:
        sock.sendall(struct.pack("!II", len(START) + 8, 196608) + START)
        got = b""
        while not got.endswith(b"Z\0\0\0\5I"):
            got += sock.recv(4096)
        sock.sendall(b"Q" + struct.pack("!I", len(QUERY) + 4) + QUERY)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while data := sock.recv(4096):
            got += data
    return "the answer" if b"the answer" in got else f"{len(got)} bytes, then FIN"


seen = ask()
print(f"client_connection_check_interval = {sys.argv[1]}: {seen}")
assert seen == sys.argv[2], seen
END
check() {
    $as $bin/postgres -D data -c port=18487 -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c client_connection_check_interval="$1" 2>log &
    server=$!
    trap 'kill $server; wait; rm -rf "$folder"' EXIT
    python3 ask.py "$1" "$2"
    kill $server
    wait $server || true
    trap 'rm -rf "$folder"' EXIT
}
check 0 "the answer"
check 200ms "0 bytes, then FIN"
grep -q "connection to client lost" log
