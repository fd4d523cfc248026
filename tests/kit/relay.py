"""The least program that looks like the product from outside, to test kit.proxy with: a relay of threads.

`python relay.py [--fault] config.json`; a fault makes it break one rule: --traceback, --leak, --forget (no record),
--miscount. Half-close works, resets do not. One process; a `sleep` child plays no part.
"""

import contextlib
import json
import pathlib
import signal
import socket
import sys
import threading


def main(argv):
    faults = {word for word in argv if word.startswith("--")}
    config = json.loads(pathlib.Path(argv[-1]).read_text())
    app = config["apps"][0]
    host, port = app["targets"][0].rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", app["ports"][0]))
    args = (listener, (host, int(port)), config, faults)
    threading.Thread(target=accept, args=args, name="accept", daemon=True).start()
    say("ready: 1 app")
    signal.sigwait({signal.SIGTERM})
    return 0


def accept(listener, address, config, faults):
    leaked = []
    for number in range(1 << 30):
        client, name = listener.accept()
        if "--leak" in faults:
            leaked.append(socket.socket())
        if "--traceback" in faults:
            say("Traceback (most recent call last)")
        args = (number, client, f"{name[0]}:{name[1]}", address, config, faults)
        threading.Thread(target=serve, args=args, name=f"session-{number}", daemon=True).start()


def serve(number, client, name, address, config, faults):
    target = socket.socket()
    target.connect(address)
    counts = [0, 0]
    up = threading.Thread(target=copy, args=(client, target, counts, 0), name="up")
    up.start()
    copy(target, client, counts, 1)
    up.join()
    client.close()
    target.close()
    if "--forget" not in faults:
        record = {
            "id": str(number), "client": name, "reason": "done", "bytes_up": counts[0] + ("--miscount" in faults),
            "bytes_down": counts[1],
        }  # fmt: skip
        with pathlib.Path(config["access_log"]).open("a") as file:
            file.write(json.dumps(record) + "\n")


def copy(source, dest, counts, index):
    while data := source.recv(65536):
        counts[index] += len(data)
        dest.sendall(data)
    with contextlib.suppress(OSError):
        dest.shutdown(socket.SHUT_WR)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.exit(main(sys.argv[1:]))
