#!/bin/sh
# MariaDB 10.11 (Debian 12), max_connect_errors = 5. A client that connects and leaves without a login, as a TCP health check does,
# counts as an error of its host, and after the sixth the host is blocked with error 1129, real clients included.
# The surprise: only if the look-up of the address's name came to an end. The errors are kept in the cache of host names, and
# what DNS could not be asked for is not cached, so with a DNS that does not answer nobody is ever blocked, nor is 127.0.0.1.
# A balancer that checked for years is shut out the day name service works.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
apt-get download -q mariadb-server=1:10.11.19-0+deb12u1 mariadb-server-core=1:10.11.19-0+deb12u1 libaio1 liburing2 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done

cat > checks.py <<'END'
import socket, struct, time

def connect(address, leave):
    with socket.socket() as sock:
        sock.settimeout(10)
        sock.bind((address, 0))
        sock.connect((address, 3399))
        if leave:
            return None
        packet = sock.recv(4096)
    return struct.unpack("<H", packet[5:7])[0] if packet[4] == 0xFF else packet[5:].split(b"\0")[0].decode()

print("version:", connect("127.0.0.1", leave=False))
seen = {}
for name, address in (("127.0.0.1", "127.0.0.1"), ("DNS does not answer", "10.9.9.8"), ("the name is known", "10.9.9.9")):
    for _ in range(6):
        connect(address, leave=True)
    time.sleep(1)  # the server counts them when it has looked for the name
    seen[name] = connect(address, leave=False)
    print(f"{name}: after 6 connects without a login the next client gets", seen[name])
blocked = [name for name, answer in seen.items() if answer == 1129]
assert blocked == ["the name is known"], blocked
END

cat > inside.sh <<'END'
ip link set lo up
ip addr add 10.9.9.8/32 dev lo
ip addr add 10.9.9.9/32 dev lo
printf '127.0.0.1 localhost\n10.9.9.9 balancer.example\n' > hosts
mount --bind hosts /etc/hosts
printf 'hosts: files dns\n' > nsswitch.conf
mount --bind nsswitch.conf /etc/nsswitch.conf
printf 'nameserver 127.0.0.1\n' > resolv.conf
mount --bind resolv.conf /etc/resolv.conf
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu"
server="root/usr/sbin/mariadbd --no-defaults --user=root --datadir=$PWD/data --lc-messages-dir=$PWD/root/usr/share/mysql"
mkdir data
{ printf 'create database mysql;\nuse mysql;\n'; cat root/usr/share/mysql/mysql_system_tables.sql; } | $server --bootstrap >/dev/null 2>&1
echo "create user visitor@'%';" > users.sql
$server --port=3399 --socket="$PWD/socket" --max-connect-errors=5 --init-file="$PWD/users.sql" >log 2>&1 &
trap 'kill $!; wait' EXIT
for _ in $(seq 100); do grep -q "ready for connections" log && break; sleep 0.2; done
python3 checks.py
END
unshare --map-root-user --mount --net sh inside.sh
