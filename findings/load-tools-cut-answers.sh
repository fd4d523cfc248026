#!/bin/sh
# Load tools of Debian 12 against a server that says Content-Length 1000, sends 10 bytes and ends the connection, with a FIN or a reset.
# The surprise: hey counts every such answer as a 200, without an error, after a FIN and after a reset; ab and httperf do so after
# a FIN (ab: "Failed requests: 0", and a document length of 10). Only wrk counts an error for each of them. h2load gives a
# connection up at the first one: two requests of twenty are sent, all twenty are errors, and the run is over in milliseconds.
# So "no errors" of three of the five says nothing about a proxy that cuts answers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q wrk=4.1.0-3+b2 hey=0.1.4-2+b4 nghttp2-client=1.52.0-1+deb12u3 apache2-utils=2.4.71-1~deb12u1 \
    httperf=0.9.0-9+b2 libluajit-5.1-2 libjemalloc2 libev4 libnghttp2-14 libapr1 libaprutil1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$PWD/root/usr/lib/x86_64-linux-gnu" PATH="$PWD/root/usr/bin:$PATH"

cat > tools.py <<'END'
import re, socket, struct, subprocess, threading, time

RESET = struct.pack("ii", 1, 0)


def serve(listener, reset):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=answer, args=(sock, reset), daemon=True).start()


def answer(sock, reset):
    try:
        if sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
        if reset:
            time.sleep(0.01)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except OSError:
        pass
    sock.close()


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else None


def tools(port):
    url = f"http://127.0.0.1:{port}/"
    text = run("hey", "-n", "20", "-c", "2", url)
    yield "hey", number(r"\[200\]\s+(\d+) responses", text), 0 if "Error distribution" not in text else "errors"
    text = run("ab", "-q", "-n", "20", "-c", "2", url)
    yield "ab", number(r"Complete requests:\s+(\d+)", text), number(r"Failed requests:\s+(\d+)", text)
    text = run("httperf", "--server", "127.0.0.1", "--port", str(port), "--num-conns", "20")
    yield "httperf", number(r"2xx=(\d+)", text), number(r"Errors: total (\d+)", text)
    text = run("wrk", "-t1", "-c2", "-d1s", url)
    yield "wrk", number(r"(\d+) requests in", text), "counted" if (number(r"read (\d+)", text) or 0) > 20 else 0
    text = run("h2load", "--h1", "-n", "20", "-c", "2", url)
    yield "h2load", number(r"(\d+) succeeded", text), number(r"(\d+) errored", text)
    yield "h2load, started", number(r"(\d+) started", text), ""


seen = {}
for how in ("FIN", "reset"):
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=serve, args=(listener, how == "reset"), daemon=True).start()
    for tool, good, errors in tools(listener.getsockname()[1]):
        print(f"{how}: {tool}: {good} good, errors: {errors}")
        seen[how, tool] = (good, errors)
assert seen["FIN", "hey"] == seen["reset", "hey"] == seen["FIN", "ab"] == seen["FIN", "httperf"] == (20, 0), seen
assert seen["reset", "ab"] == (None, None) and seen["reset", "httperf"] == (0, 20), seen
assert seen["FIN", "wrk"] == seen["reset", "wrk"] == (0, "counted"), seen
assert seen["FIN", "h2load"] == (0, 20) and seen["FIN", "h2load, started"][0] == 2, seen
END
for package in wrk*.deb hey*.deb nghttp2*.deb apache2*.deb httperf*.deb; do dpkg-deb -W "$package"; done
python3 tools.py
