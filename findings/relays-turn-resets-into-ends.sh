#!/bin/sh
# Relays of Debian 12 with 1,000 bytes under way, when one side then resets its connection (SO_LINGER 0), which is how a sender says
# that it gives up and that this is not all.
# The surprise: when the server resets, the client of HAProxy 2.6, nginx 1.22 (stream) and socat 1.7 gets the bytes and a FIN: half a
# download looks like the whole of one. When the client resets, HAProxy alone passes it on; nginx, stunnel 5.68 and socat end
# the server's connection with a FIN. An end without close_notify, which TLS has so that this cannot happen, becomes a FIN at
# HAProxy, nginx and stunnel alike. So behind such a relay, or before it, a proxy never sees the resets that there were.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q haproxy=2.6.12-1+deb12u4 nginx=1.22.1-9+deb12u11 libnginx-mod-stream=1.22.1-9+deb12u11 socat=1.7.4.4-2 \
    stunnel4=3:5.68-2+deb12u1 libopentracing-c-wrapper0 libopentracing1 liblua5.3-0 libwrap0 libnsl2 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
for package in haproxy*.deb nginx*.deb socat*.deb stunnel*.deb; do dpkg-deb -W "$package"; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
    >/dev/null 2>&1
cat cert.pem key.pem > both.pem
cat > haproxy.cfg <<END
defaults
  mode tcp
  timeout connect 2s
  timeout client 5s
  timeout server 5s
listen relay
  bind 127.0.0.1:18491
  bind 127.0.0.1:18494 ssl crt $PWD/both.pem
  server one 127.0.0.1:18499
END
cat > nginx.conf <<END
load_module $PWD/root/usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid $PWD/pid;
error_log stderr;
events {}
stream {
  ssl_certificate $PWD/cert.pem;
  ssl_certificate_key $PWD/key.pem;
  server { listen 127.0.0.1:18492; listen 127.0.0.1:18495 ssl; proxy_pass 127.0.0.1:18499; }
}
END
printf 'foreground = yes\npid =\n[relay]\naccept = 127.0.0.1:18496\nconnect = 127.0.0.1:18499\ncert = both.pem\n' > stunnel.conf
cat > ask.py <<'END'
import queue, socket, ssl, struct, time

RELAYS = {
    "HAProxy": 18491, "nginx": 18492, "socat": 18493,
    "HAProxy, TLS": 18494, "nginx, TLS": 18495, "stunnel, TLS": 18496,
}  # fmt: skip
listener = socket.create_server(("127.0.0.1", 18499))
listener.settimeout(5)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def end_of(sock):
    sock.settimeout(5)
    try:
        while sock.recv(65536):
            pass
        return "FIN"
    except ConnectionResetError:
        return "reset"


def connect(name):
    sock = socket.create_connection(("127.0.0.1", RELAYS[name]), 5)
    if "TLS" in name:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    sock.sendall(b"x" * 1000)
    server, _ = listener.accept()
    while len(server.recv(1000, socket.MSG_PEEK)) < 1000:
        time.sleep(0.01)
    return sock, server


seen = {}
for name in RELAYS:
    client, server = connect(name)
    reset(client)
    seen[name] = end_of(server)
    print(f"{name}: the client resets, the server sees: {seen[name]}")
    server.close()
    if "TLS" in name:
        client, server = connect(name)
        client.shutdown(socket.SHUT_WR)  # of the socket: Python says nothing in TLS then
        case = f"{name}: the client ends without close_notify"
        seen[case] = end_of(server)
        print(f"{case}, the server sees: {seen[case]}")
        client.close()
        server.close()
    else:
        client, server = connect(name)
        server.recv(1000)
        server.sendall(b"y" * 1000)
        while len(client.recv(1000, socket.MSG_PEEK)) < 1000:
            time.sleep(0.01)
        reset(server)
        case = f"{name}: the server resets"
        seen[case] = end_of(client)
        print(f"{case}, the client sees: {seen[case]}")
assert {case for case, end in seen.items() if end == "reset"} == {"HAProxy", "HAProxy, TLS"}, seen
END
root/usr/sbin/haproxy -f haproxy.cfg >log 2>&1 & servers=$!
root/usr/sbin/nginx -e stderr -c "$PWD/nginx.conf" >log 2>&1 & servers="$servers $!"
root/usr/bin/socat tcp-listen:18493,bind=127.0.0.1,fork,reuseaddr tcp:127.0.0.1:18499 >log 2>&1 & servers="$servers $!"
root/usr/bin/stunnel4 stunnel.conf >log 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
sleep 1.5
python3 ask.py
