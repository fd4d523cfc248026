#!/bin/sh
# Apache httpd 2.4.71 (Debian 12) with RemoteIPProxyProtocol On, and headers of version 1 without an address.
# The surprise: the short "PROXY UNKNOWN", 15 bytes with its end of line and allowed by the specification, is never taken: as soon as
# a byte of the request comes behind it, in one segment or half a second later, the connection is ended (AH03513: have data left
# over; need=15). With addresses behind UNKNOWN, which say nothing, it is. So a proxy before it uses version 2 for clients
# without an address, such as those of a UNIX socket.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q apache2-bin=2.4.71-1~deb12u1 libapr1 libaprutil1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
dpkg-deb -W apache2-bin*.deb
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu"
mkdir pages
echo here > pages/page
chmod -R a+rX .
modules="$PWD/root/usr/lib/apache2/modules"
cat > httpd.conf <<END
ServerRoot "$PWD"
Listen 127.0.0.1:18471
ServerName localhost
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule remoteip_module $modules/mod_remoteip.so
PidFile httpd.pid
DefaultRuntimeDir .
ErrorLog httpd.log
LogLevel info
RemoteIPProxyProtocol On
DocumentRoot "$PWD/pages"
END
cat > ask.py <<'END'
import socket, time

REQUEST = b"GET /page HTTP/1.0\r\n\r\n"


def ask(header, apart=False):
    for _ in range(100):
        try:
            sock = socket.create_connection(("127.0.0.1", 18471), 5)
            break
        except OSError:
            time.sleep(0.1)
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if apart:
            sock.sendall(header)
            time.sleep(0.5)
            sock.sendall(REQUEST)
        else:
            sock.sendall(header + REQUEST)
        try:
            return sock.makefile("rb").readline()[:12].decode() or "ended"
        except ConnectionResetError:
            return "ended"


seen = {
    "with an address": ask(b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"),
    "UNKNOWN": ask(b"PROXY UNKNOWN\r\n"),
    "UNKNOWN, apart": ask(b"PROXY UNKNOWN\r\n", apart=True),
    "UNKNOWN with addresses": ask(b"PROXY UNKNOWN ffff::1 ffff::2 1111 2222\r\n"),
}
for case, said in seen.items():
    print(f"{case}: {said}")
assert seen == {
    "with an address": "HTTP/1.1 200", "UNKNOWN": "ended", "UNKNOWN, apart": "ended",
    "UNKNOWN with addresses": "HTTP/1.1 200",
}
END
root/usr/sbin/apache2 -f "$PWD/httpd.conf" -DFOREGROUND >log 2>&1 &
server=$!
trap 'kill $server; wait; rm -rf "$folder"' EXIT
python3 ask.py || { cat log httpd.log; exit 1; }
