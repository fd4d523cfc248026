#!/bin/sh
# nats-py 2.16 with a URL of tls:// and a TLS context, through a relay that ends TLS, to NATS 2.9 (Debian 12) without TLS.
# The surprise: tls:// does not begin with TLS. The client waits for the server's INFO in clear, the relay for the client's hello, and
# neither says a word until the client's connect_timeout. With tls_handshake_first=True the same client gets through. So TLS
# for NATS cannot be ended before the server unless each client is told; TLS that passes through, and the server's own, work.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q nats-server=2.9.10-1+b3 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -W "$package"; dpkg -x "$package" root; done
python3 -m venv venv
venv/bin/pip -q install nats-py==2.16.0
venv/bin/pip list 2>/dev/null | grep nats
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
    >/dev/null 2>&1
cat > ask.py <<'END'
import asyncio, logging, ssl
import nats

logging.disable()


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.close()


async def relay(reader, writer):
    from_server, to_server = await asyncio.open_connection("127.0.0.1", 18444)
    await asyncio.gather(copy(reader, to_server), copy(from_server, writer))


async def nothing(error):
    pass


async def ask(**options):
    context = ssl.create_default_context(cafile="cert.pem")
    context.check_hostname = False
    try:
        client = await nats.connect(
            "tls://127.0.0.1:18445", tls=context, connect_timeout=2, allow_reconnect=False, error_cb=nothing, **options
        )
    except (asyncio.TimeoutError, nats.errors.Error) as error:
        return type(error).__name__
    await client.flush(2)
    await client.close()
    return "connected"


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    async with await asyncio.start_server(relay, "127.0.0.1", 18445, ssl=context):
        return [await ask(), await ask(tls_handshake_first=True)]


seen = asyncio.run(main())
print("tls://:", seen[0])
print("tls://, tls_handshake_first=True:", seen[1])
assert seen == ["TimeoutError", "connected"], seen
END
root/usr/sbin/nats-server -a 127.0.0.1 -p 18444 >log 2>&1 &
server=$!
trap 'kill $server; wait; rm -rf "$folder"' EXIT
for _ in $(seq 50); do grep -q "Server is ready" log && break; sleep 0.1; done
venv/bin/python ask.py
