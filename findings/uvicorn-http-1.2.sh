#!/bin/sh
# uvicorn 0.40 with httptools 0.7.1 and with h11 0.16. The surprise: the same application answers "GET / HTTP/1.2" with 200 or
# with 400, and which of the two depends on whether httptools happens to be installed (uvicorn's default, --http auto, takes
# it when it is there). RFC 9110, 2.5: a higher minor version is to be read as the highest one that is known.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install -q uvicorn==0.40.0 h11==0.16.0 httptools==0.7.1
cat > app.py <<'END'
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
END
cat > ask.py <<'END'
import socket, sys

def status(version):
    with socket.create_connection(("127.0.0.1", 18081), 5) as sock:
        sock.settimeout(5)
        sock.sendall(f"GET / HTTP/{version}\r\nHost: example.org\r\n\r\n".encode())
        return sock.recv(4096).split()[1].decode()

seen = {version: status(version) for version in ("1.1", "1.2")}
print(sys.argv[1], seen)
assert seen == {"1.1": "200", "1.2": sys.argv[2]}, seen
END
for wanted in "h11 200" "httptools 400" "auto 400"; do
    set -- $wanted
    v/bin/uvicorn --http "$1" --port 18081 --log-level critical app:app &
    server=$!
    for _ in $(seq 50); do python3 -c 'import socket; socket.create_connection(("127.0.0.1", 18081), 1)' 2>/dev/null && break; sleep 0.2; done
    python3 ask.py "$1" "$2" || { kill $server; exit 1; }
    kill $server
    wait $server 2>/dev/null || true
done
