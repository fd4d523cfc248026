#!/bin/sh
# A ClientHello may be spread over several TLS records (RFC 8446, 5.1), and is if the client was told to make small ones.
# The surprise: HAProxy 2.6 looks for the server's name in the first record only, and sslh 1.20 finds it only if there is no second
# one. They take such a client for one without a name and send it to the default backend, at once and without a word; HAProxy's
# req.ssl_hello_type is 1 all the same. nginx 1.22 (ssl_preread) reads on and finds the name. Segments do not matter to any of
# the three, so it is the records, which only the client chooses, that decide where the client gets to.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q haproxy=2.6.12-1+deb12u4 nginx=1.22.1-9+deb12u11 libnginx-mod-stream=1.22.1-9+deb12u11 sslh=1.20-1+deb12u1 \
    libopentracing-c-wrapper0 libopentracing1 liblua5.3-0 libconfig9 libpcre3 libwrap0 libnsl2 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu"

cat > haproxy.cfg <<END
defaults
  mode tcp
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend tls
  bind 127.0.0.1:18471
  tcp-request inspect-delay 2s
  tcp-request content accept if { req.ssl_hello_type 1 }
  use_backend shop if { req.ssl_sni -i shop.example }
  default_backend other
backend shop
  server shop 127.0.0.1:18481
backend other
  server other 127.0.0.1:18482
END
cat > nginx.conf <<END
load_module $PWD/root/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid $PWD/pid;
error_log stderr;
events {}
stream {
  map \$ssl_preread_server_name \$target { shop.example 127.0.0.1:18481; default 127.0.0.1:18482; }
  server { listen 127.0.0.1:18472; ssl_preread on; proxy_pass \$target; }
}
END
cat > sslh.cfg <<END
foreground: true;
timeout: 2;
listen: ( { host: "127.0.0.1"; port: "18473"; } );
protocols: (
  { name: "tls"; host: "127.0.0.1"; port: "18481"; sni_hostnames: [ "shop.example" ]; },
  { name: "tls"; host: "127.0.0.1"; port: "18482"; }
);
END
cat > ask.py <<'END'
import socket, ssl, threading, time


def serve(port, name):
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        sock, _ = listener.accept()
        sock.recv(65536)
        sock.sendall(name)
        sock.close()


def client_hello():
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="shop.example").do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def records(hello, cut):
    return [hello[:3] + len(part).to_bytes(2, "big") + part for part in (hello[5 : 5 + cut], hello[5 + cut :])]


def ask(port, *segments):
    with socket.create_connection(("127.0.0.1", port), 3) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for segment in segments:
            sock.sendall(segment)
            time.sleep(0.3)
        return sock.recv(100).decode()


for port, name in ((18481, b"shop"), (18482, b"other")):
    threading.Thread(target=serve, args=(port, name), daemon=True).start()
hello = client_hello()
place = hello.index(b"shop.example") - 5
cases = {
    "one record": [hello],
    "one record, two segments, cut in the name": [hello[: place + 9], hello[place + 9 :]],
    "two records, the name in the first": [b"".join(records(hello, place + 20))],
    "two records, cut in the name": [b"".join(records(hello, place + 4))],
    "two records, the name in the second": [b"".join(records(hello, 40))],
}
seen = {}
for port, name in ((18471, "HAProxy"), (18472, "nginx"), (18473, "sslh")):
    for case, segments in cases.items():
        seen[name, case] = ask(port, *segments)
        print(f"{name}: {case}: {seen[name, case]}")
astray = {("HAProxy", case) for case in list(cases)[3:]} | {("sslh", case) for case in list(cases)[2:]}
assert {key for key, got in seen.items() if got == "other"} == astray, seen
assert {got for key, got in seen.items() if key not in astray} == {"shop"}, seen
END
for package in haproxy*.deb nginx*.deb sslh*.deb; do dpkg-deb -W "$package"; done
root/usr/sbin/haproxy -f haproxy.cfg >log 2>&1 &
servers=$!
root/usr/sbin/nginx -e stderr -c "$PWD/nginx.conf" >log 2>&1 &
servers="$servers $!"
root/usr/sbin/sslh-select -F"$PWD/sslh.cfg" >log 2>&1 &
servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
sleep 1.5
python3 ask.py
