"""A target to try the proxy with: it says who it is, then sends back whatever it gets. Standard library only.

    python3 examples/echo.py serve 127.0.0.1:9001     until Ctrl-C, or until its standard input ends
    python3 examples/echo.py ask 127.0.0.1:5001 6     connect 6 times; each line says who answered

`make run` starts one for each target of config.json.
"""

import contextlib
import os
import socket
import socketserver
import sys
import threading


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that resets is no news here
            self.request.sendall(b"this is " + self.server.title.encode() + b"\n")
            while data := self.request.recv(65536):
                self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, title: str, address: tuple[str, int]) -> None:
        self.title = title
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)


def serve(text: str) -> int:
    try:
        server = Server(text, split(text))
    except OSError as error:
        print(f"echo: cannot listen on {text}: {error.strerror}", file=sys.stderr)
        return 1
    print("listening", flush=True)
    # Whoever started us holds the other end of our standard input: when it is gone, so are we.
    threading.Thread(target=end_with_input, args=(server,), name="input", daemon=True).start()
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def end_with_input(server: Server) -> None:
    if os.isatty(0):
        return
    while os.read(0, 4096):
        pass
    server.shutdown()


def ask(text: str, times: int) -> int:
    for number in range(1, times + 1):
        print(f"connection {number}: {answer(text)}")
    return 0


def answer(text: str) -> str:
    try:
        with socket.create_connection(split(text), timeout=10) as sock, sock.makefile("r") as lines:
            return lines.readline().strip() or "nothing was said"
    except OSError as error:
        return str(error)


def split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main(argv: list[str]) -> int:
    match argv:
        case ["serve", address]:
            return serve(address)
        case ["ask", address]:
            return ask(address, 6)
        case ["ask", address, times]:
            return ask(address, int(times))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads what we print has seen enough
        status = 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
    sys.exit(status)
