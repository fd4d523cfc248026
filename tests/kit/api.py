"""A client of the management API: one request, one connection, nothing clever.

    api = Api(port)  or  Api("/path/of/socket")
    api.get("/api/v1/apps").json            api.post("/api/v1/reload", status=200)
"""

import http.client
import json
import re
import socket
from urllib.parse import quote

from kit.ports import free_port

TOKEN = "correct-horse-battery-staple"


def write_token(path, text=TOKEN):
    """A file that only its owner may read, as the API wants it."""
    path.touch(0o600)
    path.write_text(text)
    return path


def api_config(**more):
    """The `api` of a configuration, on a free port."""
    return {"listen": f"127.0.0.1:{free_port()}", **more}


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def __repr__(self):
        return f"<{self.status} {self.headers.get('content-type')} {self.body[:300]}>"

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def detail(self):
        """Of a problem, which it has to be."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status, self
        return self.json["detail"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    def __init__(self, where, token=None):
        """`where`: a port of 127.0.0.1, or the path of a socket."""
        self.where = where
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @classmethod
    def of(cls, program, token=None):
        listen = program.config["api"]["listen"]
        found = re.fullmatch(r"unix:(.*)", listen)
        return cls(found[1] if found else int(listen.rpartition(":")[2]), token)

    def ask(self, method, path, body=None, headers=(), status=None, seconds=20):
        """`body` is sent as JSON, and may be bytes. The reply, whose status must be the one wanted, if one is."""
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.where, timeout=seconds)
            if isinstance(self.where, int)
            else _UnixConnection(self.where, seconds)
        )
        headers = {**self.headers, **dict(headers)}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, body, headers)
            reply = Reply(connection.getresponse())
        finally:
            connection.close()
        assert status in (None, reply.status), reply
        return reply

    def get(self, path, status=200, **how):
        return self.ask("GET", path, status=status, **how)

    def post(self, path, body=None, status=200, **how):
        return self.ask("POST", path, body, status=status, **how)


def path_of(app, target=None, *more):
    """The path of an app or a target, whatever their names."""
    parts = ["api", "v1", "apps", app, *([] if target is None else ["targets", target]), *more]
    return "/" + "/".join(quote(part, safe="") for part in parts)
