#!/bin/sh
# A client sends one request, ends its own direction (shutdown, as `printf ... | nc -N` does) and reads the answer of 20 MB.
# The surprise: Redis 7.0 (Debian 12) sends what the socket takes at once, meets the client's end and closes, with a FIN and as if that
# was all; short answers are whole, and a blocking command (BLPOP) gets none. memcached 1.6 gives the whole answer first. So a
# cut answer with an orderly end can be the server's own doing, and a proxy that passes a half-close on shows it to its client.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q redis-tools=5:7.0.15-1~deb12u10 redis-server=5:7.0.15-1~deb12u10 memcached=1.6.18-1+deb12u1 \
    libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libhiredis0.14 libatomic1 libevent-2.1-7 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
for package in redis-tools*.deb memcached*.deb; do dpkg-deb -W "$package"; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu"
cp root/usr/bin/redis-check-rdb redis-server
./redis-server --port 18477 --save '' --loglevel warning >log 2>&1 & servers=$!
as=""
if [ "$(id -u)" = 0 ]; then as="-u root"; fi
root/usr/bin/memcached $as -l 127.0.0.1 -p 18478 -I 32m -m 128 >log 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
cat > ask.py <<'END'
import socket, time

SIZE = 20_000_000


def connect(port):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            time.sleep(0.1)


def store(port, request):
    with connect(port) as sock:
        sock.sendall(request)
        sock.recv(100)


def ask(port, request):
    """How many bytes there are before the FIN; a reset is an error."""
    with connect(port) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        count = 0
        while data := sock.recv(1 << 20):
            count += len(data)
    return count


store(18477, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%s\r\n" % (SIZE, b"x" * SIZE))
store(18478, b"set key 0 0 %d\r\n%s\r\n" % (SIZE, b"x" * SIZE))
redis, memcached = ask(18477, b"GET key\r\n"), ask(18478, b"get key\r\n")
ping, blocking = ask(18477, b"PING\r\n" * 3), ask(18477, b"BLPOP queue 1\r\n")
print(f"Redis: {redis} bytes of {SIZE}, then FIN; 3 PINGs: {ping} of 21; BLPOP with a second to wait: {blocking}")
print(f"memcached: {memcached} bytes")
assert 0 < redis < SIZE and (ping, blocking) == (21, 0) and memcached > SIZE
END
python3 ask.py
