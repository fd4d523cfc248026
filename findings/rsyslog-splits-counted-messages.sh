#!/bin/sh
# rsyslog 8.2302 (Debian 12) as it is installed: maxMessageSize is 8,096 bytes. It is sent messages over TCP with their length before
# them (RFC 6587, octet counting), one of them of 8,192 bytes.
# The surprise: its own log says "truncating", and the end of the long one is known, but what is behind 8,096 bytes becomes a message of
# its own, and the byte between the two is lost. The next message is whole. By UDP the long one is truncated, as is said. So
# who sends to an rsyslog of somebody else's ends messages at 8,096 bytes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q rsyslog=8.2302.0-1+deb12u2 libestr0 libfastjson4 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
dpkg-deb -W rsyslog*.deb
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu"
cat > rsyslog.conf <<END
global(workDirectory="$PWD")
module(load="imtcp")
module(load="imudp")
input(type="imtcp" address="127.0.0.1" port="18560")
input(type="imudp" address="127.0.0.1" port="18560")
template(name="raw" type="string" string="%rawmsg%\n")
action(type="omfile" file="$PWD/messages" template="raw")
END
cat > ask.py <<'END'
import pathlib, socket, time

HEAD = b"<13>1 2026-12-01T00:00:00Z proxy edge 4711 - - "
messages = pathlib.Path("messages")


def message(name, size):
    """Ends with digits that count."""
    text = HEAD + name + b" " + b"".join(b"%07d," % number for number in range(1100))
    return text[:size]


def wait(name):
    for _ in range(100):
        if messages.exists() and HEAD + name in messages.read_bytes():
            return
        time.sleep(0.1)


def connect():
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", 18560), 5)
        except OSError:
            time.sleep(0.1)


sent = {b"fits": message(b"fits", 8096), b"long": message(b"long", 8192), b"last": message(b"last", 200)}
with connect() as tcp:
    tcp.sendall(b"".join(b"%d %b" % (len(text), text) for text in sent.values()))
    wait(b"last")
over_tcp = messages.read_bytes().splitlines()
print("TCP:", [len(line) for line in over_tcp], "bytes, of messages of", [len(text) for text in sent.values()])
with socket.socket(type=socket.SOCK_DGRAM) as udp:
    for name, text in sent.items():
        udp.sendto(text.replace(name, b"udp-" + name), ("127.0.0.1", 18560))
    wait(b"udp-last")
over_udp = messages.read_bytes().splitlines()[len(over_tcp) :]
print("UDP:", [len(line) for line in over_udp], "bytes, of the same and 4 more each")
assert over_tcp == [sent[b"fits"], sent[b"long"][:8096], sent[b"long"][8097:], sent[b"last"]]
assert [len(line) for line in over_udp] == [8096, 8096, 204]
END
root/usr/sbin/rsyslogd -n -f "$PWD/rsyslog.conf" -i "$PWD/pid" -M "$PWD/root/usr/lib/x86_64-linux-gnu/rsyslog" >log 2>&1 &
server=$!
trap 'kill $server; wait; rm -rf "$folder"' EXIT
python3 ask.py
grep -o "size is 8192 bytes, max msg size is 8096, truncating" log
