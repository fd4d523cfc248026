#!/bin/sh
# rsyslog 8.2302 (Debian 12), omfwd over plain TCP, to a receiver that ends the connection after each message.
# The surprise: syslog over plain TCP is said to lose the message that is sent after the receiver has gone, for send() takes it
# and only the next one fails. rsyslog looks at the connection before it sends: after a FIN and after a reset alike it connects
# anew, and not one of the messages is lost or doubled. So the sessions of a syslog target can be ended between two messages
# without a loss, which moves a sender that would stay on its connection for ever (unless it has a RebindInterval).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q rsyslog=8.2302.0-1+deb12u1 libestr0 libfastjson4 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
dpkg-deb -W rsyslog*.deb
cat > ask.py <<'END'
import os, socket, struct, subprocess, time

LIBRARIES = os.path.abspath("root/usr/lib/x86_64-linux-gnu")
CONFIG = """
global(workDirectory="{folder}")
module(load="imptcp")
input(type="imptcp" address="127.0.0.1" port="18467" ruleset="forward")
ruleset(name="forward") {{
  action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
"""


def source():
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", 18467))
        except OSError:
            time.sleep(0.1)


def run(how):
    receiver = socket.create_server(("127.0.0.1", 0))
    receiver.settimeout(5)
    with open("rsyslog.conf", "w") as file:
        file.write(CONFIG.format(folder=os.getcwd(), port=receiver.getsockname()[1]))
    command = ["root/usr/sbin/rsyslogd", "-n", "-f", "rsyslog.conf", "-i", os.path.abspath("pid"), "-M", LIBRARIES + "/rsyslog"]
    server = subprocess.Popen(command, env={**os.environ, "LD_LIBRARY_PATH": LIBRARIES}, stderr=subprocess.DEVNULL)
    got = b""
    try:
        with source() as app:
            for number in range(6):
                app.sendall(b"<13>Nov 29 03:00:00 host app: message-%d\n" % number)
                sock, _ = receiver.accept()
                sock.settimeout(5)
                got += sock.recv(65536)
                if how == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                time.sleep(0.3)
    finally:
        server.terminate()
        server.wait()
        receiver.close()
    return [got.count(b"message-%d" % number) for number in range(6)]


for how in ("FIN", "reset"):
    seen = run(how)
    print(f"{how} after each message: how often each of six arrived: {seen}")
    assert seen == [1] * 6, seen
END
python3 ask.py
