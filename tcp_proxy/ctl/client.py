"""The management API, as its client sees it: JSON over HTTP, on TCP or a UNIX socket. Knows no command.

One connection a request: a command makes a few, and a proxy that was restarted meanwhile is no special case.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

DEFAULT = "http://127.0.0.1:8687"
ROOT = "/api/v1"
WITHIN = 40.0  # seconds for one answer; the API itself gives up after 30
SIGN_OF_LIFE = 60.0  # seconds without any from a stream: it is gone


class BadAddress(ValueError):
    """What --api or --token-file says is of no use."""


class Unreachable(Exception):
    """There is no proxy that answers, or what answers is none."""


class Refused(Exception):
    """The proxy answered with an error. `problem` is its body (RFC 9457)."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title")))
        self.problem = problem

    @property
    def errors(self) -> list[str]:
        """The single ones, if there are several; else the sentence."""
        errors = self.problem.get("errors", ())
        return [": ".join(str(error[key]) for key in ("where", "what") if key in error) for error in errors] or [str(self)]


def token_of(path: str) -> str:
    """Of a file; "" without one. Raises BadAddress."""
    if not path:
        return ""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise BadAddress(f"token file {path}: {reason}") from None
    if not token.isprintable():
        raise BadAddress(f"token file {path}: wanted one line")
    return token


class Client:
    """`address`: http://HOST:PORT, HOST:PORT or unix:/PATH."""

    def __init__(self, address: str = DEFAULT, token: str = "", within: float = WITHIN) -> None:
        self.address = address
        self._within = within
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._path, self._host, self._port = _place(address)

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"

    def get(self, *path: str, **query: Any) -> Any:
        return self.ask("GET", path, query=query)

    def ask(self, method: str, path: tuple[str, ...], body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. `path` is parts, as they are; a `body` of bytes is sent as it is. Raises Refused, or
        Unreachable."""
        connection = self._connection(self._within)
        try:
            answer = self._request(connection, method, path, body, query)
            return _content(answer)
        finally:
            connection.close()

    def stream(self, *path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The data of server-sent events, as they come; Unreachable when no more will."""
        connection = self._connection(SIGN_OF_LIFE)
        try:
            answer = self._request(connection, "GET", path, None, query)
            if answer.status != 200:
                _content(answer)
            while line := self._line(answer):
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])
        finally:
            connection.close()
        raise Unreachable(f"the management API at {self.address} ended the stream")

    def _line(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.readline()
        except (OSError, http.client.HTTPException):
            return b""

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: tuple[str, ...],
        body: Any,
        query: dict[str, Any] | None,
    ) -> http.client.HTTPResponse:
        target = "/".join([ROOT, *(quote(part, safe="") for part in path)])
        given = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        target += f"?{urlencode(given)}" if given else ""
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, target, body, headers)
            return connection.getresponse()
        except OSError as error:
            raise Unreachable(f"cannot reach the management API at {self.address}: {_reason(error)}") from None
        except http.client.HTTPException:
            raise Unreachable(f"what answers at {self.address} does not speak HTTP") from None

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self._path:
            return _UnixConnection(self._path, seconds)
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _content(answer: http.client.HTTPResponse) -> Any:
    try:
        text = answer.read()
        body = json.loads(text) if text else None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the answer of the management API broke off: {error}") from None
    except ValueError:
        raise Unreachable("what answers is not the management API: no JSON came") from None
    if answer.status < 400:
        return body
    problem = body if isinstance(body, dict) else {"detail": answer.reason}
    if answer.status == http.client.SERVICE_UNAVAILABLE:
        raise Unreachable(str(Refused(problem)))
    raise Refused(problem)


def _place(address: str) -> tuple[str, str, int]:
    """(path, host, port)"""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path or "\0" in path:
            raise BadAddress(f"{address!r}: wanted unix:/path/of/the/socket")
        return path, "", 0
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit("none:"), None
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/"):
        raise BadAddress(f"{address!r}: wanted http://HOST:PORT or unix:/PATH, as api.listen of the configuration")
    return "", parts.hostname, port


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
