#!/bin/sh
# A request in chunks with one trailer field ("X-Checksum: 7" between the last chunk and the empty line: RFC 9112, 7.1.2), and the same
# without it, at five servers in Python, all of which take requests in chunks.
# The surprise: Tornado 6.6.1 and Sanic 25.12.1 answer the one with a trailer with 400, whether "Trailer" announces it or not, and with
# the server of Werkzeug 3.1.9 the application's read of the body fails, which becomes 500. uvicorn 0.54 and waitress 3.0.2 throw the
# trailer away. nginx does so before such servers, HAProxy passes it on: what works behind the one is refused behind the other.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install tornado==6.6.1 sanic==25.12.1 werkzeug==3.1.9 uvicorn==0.54.0 h11==0.16.0 waitress==3.0.2
venv/bin/pip list 2>/dev/null | grep -iE "^(tornado|sanic|werkzeug|uvicorn|waitress) "
export HOME="$PWD" PYTHONPATH=.
cat > apps.py <<'END'
def wsgi(environ, start):
    body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
END
cat > with_tornado.py <<'END'
import asyncio

import tornado.web


class Echo(tornado.web.RequestHandler):
    def post(self):
        self.finish(self.request.body)


async def main():
    tornado.web.Application([("/", Echo)]).listen(18511, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
END
cat > with_sanic.py <<'END'
from sanic import Sanic
from sanic.response import raw

app = Sanic("echo")


@app.post("/")
async def echo(request):
    return raw(request.body)


if __name__ == "__main__":
    app.run("127.0.0.1", 18512, single_process=True, motd=False)
END
cat > with_werkzeug.py <<'END'
from werkzeug.serving import run_simple

import apps

run_simple("127.0.0.1", 18513, apps.wsgi)
END
cat > ask.py <<'END'
import socket, time

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
BODY = b"\r\n5\r\nhello\r\n0\r\n"
REQUESTS = {
    "without": HEAD + BODY + b"\r\n",
    "with a trailer": HEAD + BODY + b"X-Checksum: 7\r\n\r\n",
    "announced": HEAD + b"Trailer: X-Checksum\r\n" + BODY + b"X-Checksum: 7\r\n\r\n",
}


def connect(port):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            time.sleep(0.1)


def ask(port, request):
    got = b""
    with connect(port) as sock:
        sock.sendall(request)
        try:
            while data := sock.recv(65536):
                got += data
        except ConnectionError:
            pass
    status = got[9:12].decode()
    assert status != "200" or got.endswith(b"hello"), got
    return status


expected = {"Tornado": "400", "Sanic": "400", "Werkzeug": "500", "uvicorn": "200", "waitress": "200"}
for port, name in enumerate(expected, 18511):
    seen = {case: ask(port, request) for case, request in REQUESTS.items()}
    print(f"{name}:", ", ".join(f"{case} {status}" for case, status in seen.items()))
    assert list(seen.values()) == ["200", expected[name], expected[name]], seen
END
servers=""
for name in tornado sanic werkzeug; do
    venv/bin/python with_$name.py >log.$name 2>&1 & servers="$servers $!"
done
venv/bin/uvicorn --port 18514 --lifespan off apps:asgi >log.uvicorn 2>&1 & servers="$servers $!"
venv/bin/waitress-serve --listen 127.0.0.1:18515 apps:wsgi >log.waitress 2>&1 & servers="$servers $!"
trap 'kill $servers; wait; rm -rf "$folder"' EXIT
python3 ask.py
