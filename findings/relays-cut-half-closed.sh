#!/bin/sh
# A client sends its request through a relay, ends its own direction (shutdown, as `printf ... | nc -N` does) and waits for the answer,
# which the server gives a second after it has seen that end.
# The surprise: of eight relays as they are installed only HAProxy and stunnel pass the end on and bring the answer; nginx, sslh, socat,
# systemd-socket-proxyd, rinetd and simpleproxy end the connection with a FIN and no byte, as if the answer was empty. nginx needs
# proxy_half_close on for it, and socat waits for as long as -t says (0.5 s).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q haproxy=2.6.12-1+deb12u4 nginx=1.22.1-9+deb12u11 libnginx-mod-stream=1.22.1-9+deb12u11 socat=1.7.4.4-2 \
    stunnel4=3:5.68-2+deb12u1 sslh=1.20-1+deb12u1 systemd=252.39-1~deb12u2 rinetd=0.73-1 simpleproxy=3.5-1+b2 \
    libopentracing-c-wrapper0 libopentracing1 liblua5.3-0 libwrap0 libnsl2 libconfig9 libpcre3 libcap2 libsystemd-shared \
    >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
for package in haproxy*.deb nginx*.deb socat*.deb stunnel*.deb sslh*.deb systemd*.deb rinetd*.deb simpleproxy*.deb; do
    dpkg-deb -W "$package"
done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu/systemd"
cat > haproxy.cfg <<END
defaults
  mode tcp
  timeout connect 2s
  timeout client 5s
  timeout server 5s
listen relay
  bind 127.0.0.1:18521
  server one 127.0.0.1:18520
END
cat > nginx.conf <<END
load_module $PWD/root/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid $PWD/pid;
error_log stderr;
events {}
stream {
  server { listen 127.0.0.1:18524; proxy_pass 127.0.0.1:18520; }
  server { listen 127.0.0.1:18525; proxy_pass 127.0.0.1:18520; proxy_half_close on; }
}
END
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
    >/dev/null 2>&1
cat cert.pem key.pem > both.pem
cat > stunnel.conf <<END
foreground = yes
pid =
[to TLS]
client = yes
accept = 127.0.0.1:18523
connect = 127.0.0.1:18531
[from TLS]
accept = 127.0.0.1:18531
connect = 127.0.0.1:18520
cert = both.pem
END
echo "127.0.0.1 18529 127.0.0.1 18520" > rinetd.conf
cat > activate.py <<'END'
"""Runs systemd-socket-proxyd with a socket, as a socket unit does."""
import os, socket

listener = socket.create_server(("127.0.0.1", 18528))
os.dup2(listener.fileno(), 3) if listener.fileno() != 3 else os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv("root/lib/systemd/systemd-socket-proxyd", ["systemd-socket-proxyd", "127.0.0.1:18520"])
END
cat > ask.py <<'END'
import socket, threading, time

RELAYS = {
    "none": 18520, "HAProxy": 18521, "sslh": 18522, "stunnel, twice": 18523, "nginx": 18524, "nginx, proxy_half_close": 18525,
    "socat": 18526, "socat -t 5": 18527, "systemd-socket-proxyd": 18528, "rinetd": 18529, "simpleproxy": 18530,
}  # fmt: skip
CUT = {"sslh", "nginx", "socat", "systemd-socket-proxyd", "rinetd", "simpleproxy"}
listener = socket.create_server(("127.0.0.1", 18520))


def answer(sock):
    with sock:
        while sock.recv(4096):
            pass
        time.sleep(1)
        try:
            sock.sendall(b"the answer")
        except OSError:
            pass


def serve():
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def connect(port):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            time.sleep(0.1)


def ask(port):
    got = b""
    with connect(port) as sock:
        sock.sendall(b"the request")
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(4096):
            got += data
    return got.decode()


threading.Thread(target=serve, daemon=True).start()
seen = {}
for name, port in RELAYS.items():
    seen[name] = ask(port)
    print(f"{name}: {seen[name] or 'no byte, FIN'}")
assert seen == {name: "" if name in CUT else "the answer" for name in RELAYS}, seen
END
root/usr/sbin/haproxy -f haproxy.cfg >log.haproxy 2>&1 & servers=$!
root/usr/sbin/sslh-select -f -u "$(id -un)" -p 127.0.0.1:18522 --anyprot 127.0.0.1:18520 >log.sslh 2>&1 & servers="$servers $!"
root/usr/bin/stunnel4 stunnel.conf >log.stunnel 2>&1 & servers="$servers $!"
root/usr/sbin/nginx -e stderr -c "$PWD/nginx.conf" >log.nginx 2>&1 & servers="$servers $!"
root/usr/bin/socat tcp-listen:18526,bind=127.0.0.1,fork,reuseaddr tcp:127.0.0.1:18520 >log.socat 2>&1 & servers="$servers $!"
root/usr/bin/socat -t 5 tcp-listen:18527,bind=127.0.0.1,fork,reuseaddr tcp:127.0.0.1:18520 >log.socat5 2>&1 & servers="$servers $!"
python3 activate.py >log.systemd 2>&1 & servers="$servers $!"
root/usr/sbin/rinetd -f -c rinetd.conf >log.rinetd 2>&1 & servers="$servers $!"
root/usr/bin/simpleproxy -L 127.0.0.1:18530 -R 127.0.0.1:18520 >log.simpleproxy 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
python3 ask.py
