#!/bin/sh
# Servers for Python with TLS, asked with "Connection: close", in TLS 1.3. TLS ends with an alert close_notify; without it nobody
# can tell the end of an answer from a connection that was cut (RFC 8446, 6.1).
# The surprise: not only servers with threads leave it out (gunicorn 27, cheroot 11), Tornado 6.6, which has a loop of its own, does too;
# uvicorn 0.54, hypercorn 0.18, aiohttp 3.14 and Twisted 26.10 send it. So a proxy that is strict, and takes an end without
# close_notify for a loss, has a loss with every connection to the first three, and none with the others.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install gunicorn==27.0.1 cheroot==11.1.2 tornado==6.6.1 uvicorn==0.54.0 hypercorn==0.18.0 aiohttp==3.14.5 \
    "twisted[tls]==26.10.0"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
    >/dev/null 2>&1
cat > apps.py <<'END'
async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})


def wsgi(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"hi"]
END
cat > with_cheroot.py <<'END'
import apps
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

server = wsgi.Server(("127.0.0.1", 18452), apps.wsgi)
server.ssl_adapter = BuiltinSSLAdapter("cert.pem", "key.pem")
server.start()
END
cat > with_tornado.py <<'END'
import asyncio
from tornado import httpserver, web


class Hi(web.RequestHandler):
    def get(self):
        self.write("hi")


async def main():
    files = {"certfile": "cert.pem", "keyfile": "key.pem"}
    httpserver.HTTPServer(web.Application([("/", Hi)]), ssl_options=files).listen(18453, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
END
cat > with_aiohttp.py <<'END'
import ssl
from aiohttp import web


async def hi(request):
    return web.Response(text="hi")


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
app = web.Application()
app.router.add_get("/", hi)
web.run_app(app, host="127.0.0.1", port=18456, ssl_context=context, print=None)
END
cat > ask.py <<'END'
import socket, ssl, time


def ask(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    got = b""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), suppress_ragged_eofs=False) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        try:
            while data := sock.recv(65536):
                got += data
            end = "close_notify"
        except ssl.SSLError:  # EOF occurred in violation of protocol
            end = "FIN only"
    assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n\r\nhi"), got
    return end


def wait_for(port):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)


seen = {}
for number, name in enumerate(("gunicorn", "cheroot", "tornado", "uvicorn", "hypercorn", "aiohttp", "twisted"), 18451):
    wait_for(number)
    seen[name] = ask(number)
    print(f"{name}: {seen[name]}")
assert {name for name, end in seen.items() if end == "FIN only"} == {"gunicorn", "cheroot", "tornado"}, seen
END
export PYTHONPATH=. HOME="$PWD"
venv/bin/pip list 2>/dev/null | grep -iE "^(gunicorn|cheroot|tornado|uvicorn|hypercorn|aiohttp|twisted) "
venv/bin/gunicorn apps:wsgi -b 127.0.0.1:18451 --certfile cert.pem --keyfile key.pem >log 2>&1 & servers=$!
venv/bin/python with_cheroot.py >log 2>&1 & servers="$servers $!"
venv/bin/python with_tornado.py >log 2>&1 & servers="$servers $!"
venv/bin/uvicorn apps:asgi --port 18454 --ssl-certfile cert.pem --ssl-keyfile key.pem >log 2>&1 & servers="$servers $!"
venv/bin/hypercorn apps:asgi -b 127.0.0.1:18455 --certfile cert.pem --keyfile key.pem >log 2>&1 & servers="$servers $!"
venv/bin/python with_aiohttp.py >log 2>&1 & servers="$servers $!"
venv/bin/twistd -n --pidfile= web --wsgi apps.wsgi \
    --listen "ssl:18457:interface=127.0.0.1:certKey=cert.pem:privateKey=key.pem" >log 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
python3 ask.py
