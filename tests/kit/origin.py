"""A server of HTTP with an opinion of its own, the standard library's: for the tests of mode http.

with Origin() as origin:       any method on /method says "hello METHOD"; /echo gives the body back; /count says how
                               long it was and its SHA-256; /chunked answers in chunks; /headers says what was asked
                               for as JSON; /slow waits for `origin.go`
"""

import hashlib
import http.server
import json
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 2  # seconds: then a kept connection is closed, and the test can end
    disable_nagle_algorithm = True

    def answer(self):
        name = self.path.split("?")[0].strip("/")
        body = getattr(self, f"on_{name}", self.on_method)()
        if body is None:
            return
        self.send_response(200)
        self.send_header("Server", f"hello {self.command}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = answer

    def on_method(self):
        self.read_body()
        return f"hello {self.command}".encode()

    def on_echo(self):
        return b"".join(self.pieces())

    def on_count(self):
        size, digest = 0, hashlib.sha256()
        for piece in self.pieces():
            size += len(piece)
            digest.update(piece)
        return f"{size} {digest.hexdigest()}".encode()

    def on_headers(self):
        return json.dumps(self.headers.items()).encode()

    def on_slow(self):
        self.server.go.wait(10)
        return b"slow"

    def on_chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (b"hello", b" ", b"world"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def read_body(self):
        for _ in self.pieces():
            pass

    def pieces(self):
        if self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() != b"\r\n":
                pass
            return
        left = int(self.headers["Content-Length"] or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            left -= len(piece)
            yield piece

    def log_message(self, *_):
        pass


class Origin(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = False

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.port = self.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.go = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name=f"origin-{self.port}")
        self._thread.start()

    def __exit__(self, *_):
        self.go.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_):
        """A client that leaves is no error of the test."""
