"""What a request to etcd can come to beside its answer. Values of the cluster agent's process; no I/O.

`Unavailable`: nobody answered in time, or whoever did could not reach a majority. What was asked may have been done all the
same, unless `is_certain`. `Refused`: a member has answered, and the same request will be refused again.
"""

from typing import Any

# gRPC's codes (grpc.io/docs/guides/status-codes) that stand for a state of the store, not for a fault of the request.
UNKNOWN, INVALID, DEADLINE, NOT_FOUND, DENIED, EXHAUSTED, PRECONDITION, ABORTED, UNAVAILABLE, UNAUTHENTICATED = (
    2, 3, 4, 5, 7, 8, 9, 10, 14, 16,
)  # fmt: skip
OF_THE_STORE = frozenset({DEADLINE, ABORTED, UNAVAILABLE})
NO_SPACE = "database space exceeded"
NO_NAME = "user name is empty"  # there is a login, and we sent none
BAD_TOKEN = "invalid auth token"
NO_LOGIN = "authentication is not enabled"
TIMED_OUT = "request timed out"  # of 3.4, with the code for everything else
TOO_MANY = "too many requests"  # more than it has applied yet: it has taken none of ours
NO_LEADER = "etcdserver: no leader"  # said before anything is done


class EtcdError(Exception):
    """One line for an operator."""


class Unavailable(EtcdError):
    """`is_certain`: that nothing was done, for nothing was sent, or whoever has answered says so."""

    def __init__(self, text: str, is_certain: bool = False) -> None:
        super().__init__(text)
        self.is_certain = is_certain


class Refused(EtcdError):
    """`code`: gRPC's, 0 where it was no etcd that answered."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class NoSpace(Refused):
    """The alarm NOSPACE is raised: the members read and delete, but take nothing new until an operator disarms it."""


class NotAllowed(Refused):
    """User, password, token or what the user's roles permit."""


class TooLarge(Refused):
    """More bytes or operations than a member takes, or than we do."""


class Compacted(EtcdError):
    """The history from where one stood is gone: what is wanted has to be read anew. `revision`: the oldest there is."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"etcd has no history before revision {revision} any more")
        self.revision = revision


def of_answer(where: str, status: int, body: Any) -> EtcdError:
    """What an answer that is none means. `body`: the JSON of the whole answer, or of `error` inside a stream."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]  # a stream that has not begun
    if not isinstance(body, dict) or not ({"code", "grpc_code", "message", "error"} & body.keys()):
        text = "has no JSON gateway; 3.4 has none where it is started with --config-file" if status == 404 else "is no etcd"
        return Refused(f"{where} answers with HTTP status {status}: it {text}")
    code = body.get("code", body.get("grpc_code", 0))
    code = code if isinstance(code, int) else 0
    message = str(body.get("message") or body.get("error") or f"HTTP status {status}")
    text = f"{where}: {message}"
    if TOO_MANY in message or message == NO_LEADER:
        return Unavailable(text, is_certain=True)
    if code in OF_THE_STORE or TIMED_OUT in message:
        return Unavailable(text)
    if NO_SPACE in message:
        return NoSpace(text, code)
    if BAD_TOKEN in message or NO_NAME in message:
        return NotAllowed(text, UNAUTHENTICATED)
    if code in {DENIED, UNAUTHENTICATED} or "authentication failed" in message or "permission denied" in message:
        return NotAllowed(text, code)
    if code == EXHAUSTED or "too large" in message or "too many operations" in message:
        return TooLarge(text, code)
    return Refused(text, code)
