#!/bin/sh
# uvicorn 0.54.0 on a TCP socket that it is handed (--fd 3, as systemd's socket units hand theirs), and on its own (--port).
# The surprise: on a kept connection each answer of the first takes more than 40 ms, of the second a fraction of one. --fd takes every
# socket for one of UNIX, so asyncio does not set TCP_NODELAY on what it accepts: the body waits for the acknowledgement of the
# head, which the other side delays. A first request is quick, so one that connects anew each time (curl, a health check) does not see
# it, and a proxy that keeps its connections does. Hypercorn (-b fd://3) on the same socket is quick.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install uvicorn==0.54.0 h11==0.16.0 hypercorn==0.18.0
venv/bin/pip list 2>/dev/null | grep -iE "^(uvicorn|hypercorn) "
export HOME="$PWD" PYTHONPATH=.
cat > app.py <<'END'
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
END
cat > ask.py <<'END'
import os, socket, statistics, subprocess, time

PORT = 18506
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
COMMANDS = {
    "uvicorn --port": ["venv/bin/uvicorn", "--port", str(PORT), "app:app"],
    "uvicorn --fd 3": ["venv/bin/uvicorn", "--fd", "3", "app:app"],
    "hypercorn -b fd://3": ["venv/bin/hypercorn", "-b", "fd://3", "app:app"],
}


def connect(server):
    for _ in range(300):
        assert server.poll() is None, server.returncode
        try:
            return socket.create_connection(("127.0.0.1", PORT), 10)
        except OSError:
            time.sleep(0.1)


def ask(sock):
    """Milliseconds from the request to the last byte of its answer."""
    start, got = time.perf_counter(), b""
    sock.sendall(REQUEST)
    while not got.endswith(b"\r\n\r\nok"):
        got += sock.recv(4096)
    return (time.perf_counter() - start) * 1000


def times(command, handed):
    listener = None
    if handed:
        listener = socket.create_server(("127.0.0.1", PORT))
        os.dup2(listener.fileno(), 3) if listener.fileno() != 3 else os.set_inheritable(3, True)
    server = subprocess.Popen(command, pass_fds=(3,) if handed else (), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        with connect(server) as sock:
            ask(sock)  # waits until the server is there
            return statistics.median(ask(sock) for _ in range(40))
    finally:
        server.terminate()
        server.wait()
        if handed and listener.fileno() != 3:
            os.close(3)
        if handed:
            listener.close()


seen = {}
for name, command in COMMANDS.items():
    seen[name] = times(command, "3" in name)
    print(f"{name}: {seen[name]:.1f} ms for a request on a kept connection")
assert seen["uvicorn --fd 3"] > 30, seen
assert seen["uvicorn --port"] < 10 and seen["hypercorn -b fd://3"] < 10, seen
END
venv/bin/python ask.py
