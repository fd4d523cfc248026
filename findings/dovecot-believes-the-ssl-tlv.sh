#!/bin/sh
# Dovecot 2.3 (Debian 12), an IMAP listener with haproxy = yes behind a proxy that ends TLS, with disable_plaintext_auth = yes (its default).
# The surprise: Dovecot reads the TLV PP2_TYPE_SSL of the PROXY header. With its bit "the client came over TLS" the client may
# log in (AUTH=PLAIN); with version 1, and with version 2 without the TLV, it is told LOGINDISABLED, also where the header says 127.0.0.1
# and even where both ends are one address, which without a header is always let in. So to end TLS before Dovecot takes version 2 and that TLV.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q dovecot-core=1:2.3.19.1+dfsg1-2.1+deb12u7 dovecot-imapd=1:2.3.19.1+dfsg1-2.1+deb12u7 \
    libexttextcat-2.0-0 liblua5.3-0 libstemmer0d libsodium23 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
dpkg-deb -W dovecot-core*.deb
export LD_LIBRARY_PATH="$PWD/root/usr/lib/dovecot:$PWD/root/usr/lib/x86_64-linux-gnu"
user=$(id -un)
as=""
mkdir run
if [ "$(id -u)" = 0 ]; then user=nobody; as="runuser -u nobody --"; chown nobody run; chmod a+rX .; fi
group=$(id -gn "$user")
cat > dovecot.conf <<END
base_dir = $PWD/run
state_dir = $PWD/run
log_path = $PWD/run/log
libexec_dir = $PWD/root/usr/lib/dovecot
login_plugin_dir = $PWD/root/usr/lib/dovecot/modules/login
mail_plugin_dir = $PWD/root/usr/lib/dovecot/modules
import_environment = LD_LIBRARY_PATH
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
protocols = imap
ssl = no
haproxy_trusted_networks = 127.0.0.0/8
listen = 127.0.0.1
service anvil {
  chroot =
}
service stats {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = 18497
  }
  inet_listener imaps {
    port = 0
  }
  inet_listener imap_haproxy {
    port = 18498
    haproxy = yes
  }
}
passdb {
  driver = static
  args = nopassword
}
END
cat > ask.py <<'END'
import socket, time

V2, ENDS = bytes.fromhex("0d0a0d0a000d0a515549540a"), bytes.fromhex("c0000207c0000208045708ae")


def version_2(tlvs):
    return V2 + b"\x21\x11" + (len(ENDS) + len(tlvs)).to_bytes(2, "big") + ENDS + tlvs


CASES = {
    "version 1": b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n",
    "version 1, 127.0.0.1 at both ends": b"PROXY TCP4 127.0.0.1 127.0.0.1 1111 2222\r\n",
    "version 2": version_2(b""),
    "version 2, SSL TLV, not over TLS": version_2(bytes.fromhex("2000050000000000")),
    "version 2, SSL TLV, over TLS": version_2(bytes.fromhex("20000f0100000000" "210007") + b"TLSv1.3"),
}


def ask(port, header):
    for _ in range(100):
        try:
            sock = socket.create_connection(("127.0.0.1", port), 5)
            break
        except OSError:
            time.sleep(0.1)
    with sock:
        sock.sendall(header)
        greeting = sock.recv(1000)
    assert greeting.startswith(b"* OK"), greeting
    return "LOGINDISABLED" if b"LOGINDISABLED" in greeting else "AUTH=PLAIN" if b"AUTH=PLAIN" in greeting else greeting


seen = {"no header, from 127.0.0.1": ask(18497, b"")}
for case, header in CASES.items():
    seen[case] = ask(18498, header)
for case, answer in seen.items():
    print(f"{case}: {answer}")
may = {case for case, answer in seen.items() if answer == "AUTH=PLAIN"}
assert may == {"no header, from 127.0.0.1", "version 2, SSL TLV, over TLS"}, seen
END
$as root/usr/sbin/dovecot -F -c "$PWD/dovecot.conf" >log 2>&1 &
server=$!
trap 'kill $server; wait; rm -rf "$folder"' EXIT
python3 ask.py || { cat run/log; exit 1; }
