#!/bin/sh
# PgBouncer 1.18 (Debian 12) whose only PostgreSQL refuses connections, auth_type = trust.
# The surprise: a start-up message with a user it does not know is answered at once, with an ErrorResponse that looks like one of a
# healthy PostgreSQL that turns a stranger away (SQLSTATE 08P01); with a user it knows there is no byte for seconds, for the
# client waits for a server. With auth_type = md5 both are asked for a password, and so is who names a database that does not
# exist. A health check that takes the first answer for "up" learns nothing about what is behind the pooler.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q pgbouncer=1.18.0-1+deb12u1 libevent-2.1-7 libc-ares2 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done

cat > ask.py <<'END'
import socket, struct

def ask(user, database):
    text = f"user\0{user}\0database\0{database}\0\0".encode()
    with socket.create_connection(("127.0.0.1", 18084), 5) as sock:
        sock.settimeout(3)
        sock.sendall(struct.pack("!II", len(text) + 8, 196608) + text)
        try:
            answer = sock.recv(4096)
        except TimeoutError:
            return "nothing for 3 s"
    if answer[:1] == b"E":
        return "error " + next(part[1:].decode() for part in answer[5:].split(b"\0") if part[:1] == b"C")
    return "asked for a password" if answer[:1] == b"R" and answer[5:9] == b"\0\0\0\x05" else repr(answer)
END
cat > trust.py <<'END'
from ask import ask
seen = {user: ask(user, "app") for user in ("stranger", "known")}
print("trust, database app, server gone:", seen)
assert seen == {"stranger": "error 08P01", "known": "nothing for 3 s"}, seen
END
cat > md5.py <<'END'
from ask import ask
seen = {(user, name): ask(user, name) for user in ("stranger", "known") for name in ("app", "nowhere")}
print("md5, server gone:", seen)
assert set(seen.values()) == {"asked for a password"}, seen
END
echo '"known" "md5abcdefabcdefabcdefabcdefabcdefab"' > users
chmod -R a+rX .
as=""
if [ "$(id -u)" = 0 ]; then as="runuser -u nobody --"; fi
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu"
root/usr/sbin/pgbouncer --version | head -n 1
for kind in trust md5; do
    cat > "$kind.ini" <<END
[databases]
app = host=127.0.0.1 port=1 dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 18084
auth_type = $kind
auth_file = $PWD/users
unix_socket_dir =
END
    $as root/usr/sbin/pgbouncer "$PWD/$kind.ini" >/dev/null 2>&1 &
    server=$!
    sleep 1.5
    python3 "$kind.py" || { kill $server; exit 1; }
    kill $server
    wait $server 2>/dev/null || true
done
