#!/bin/sh
# Relays of Debian 12 whose only server refuses connections, asked by a client that waits to be spoken to.
# The surprise: HAProxy 2.6 (mode tcp), nginx 1.22 (stream) and socat 1.7 accept, and end with a FIN and no byte: a session that looks
# as if the server had had nothing to say. HAProxy does so even when its own checks have told it that no server is up: it goes on
# accepting. stunnel 5.68 (client = yes) resets. So a check that connects finds the first three well, and a proxy that tries another
# target after a reset before the first byte does not after such an end: ask them what only the server behind can answer.
# (A client that speaks gets a reset instead when its bytes come before the end, for nobody reads them: chance decides.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q haproxy=2.6.12-1+deb12u4 nginx=1.22.1-9+deb12u11 libnginx-mod-stream=1.22.1-9+deb12u11 socat=1.7.4.4-2 \
    stunnel4=3:5.68-2+deb12u1 libopentracing-c-wrapper0 libopentracing1 liblua5.3-0 libwrap0 libnsl2 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
for package in haproxy*.deb nginx*.deb socat*.deb stunnel*.deb; do dpkg-deb -W "$package"; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu"
cat > haproxy.cfg <<END
defaults
  mode tcp
  retries 1
  timeout connect 1s
  timeout client 5s
  timeout server 5s
listen unchecked
  bind 127.0.0.1:18421
  server one 127.0.0.1:1
listen checked
  bind 127.0.0.1:18422
  server one 127.0.0.1:1 check inter 100ms fall 1
END
cat > nginx.conf <<END
load_module $PWD/root/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid $PWD/pid;
error_log stderr;
events {}
stream { server { listen 127.0.0.1:18423; proxy_pass 127.0.0.1:1; } }
END
printf 'foreground = yes\npid =\nclient = yes\n[relay]\naccept = 127.0.0.1:18425\nconnect = 127.0.0.1:1\n' > stunnel.conf
cat > ask.py <<'END'
import socket

RELAYS = ("HAProxy, not checked", "HAProxy, server down", "nginx", "socat", "stunnel")


def ask(port):
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        try:
            return sock.recv(100).decode() or "FIN"
        except ConnectionError as error:
            return type(error).__name__


seen = {}
for port, name in enumerate(RELAYS, 18421):
    seen[name] = ask(port)
    print(f"{name}: the client gets {seen[name]}")
assert [seen[name] for name in RELAYS] == ["FIN"] * 4 + ["ConnectionResetError"], seen
END
root/usr/sbin/haproxy -f haproxy.cfg >log 2>&1 & servers=$!
root/usr/sbin/nginx -e stderr -c "$PWD/nginx.conf" >log 2>&1 & servers="$servers $!"
root/usr/bin/socat tcp-listen:18424,bind=127.0.0.1,fork,reuseaddr tcp:127.0.0.1:1 >log 2>&1 & servers="$servers $!"
root/usr/bin/stunnel4 stunnel.conf >log 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
sleep 2
python3 ask.py
