"""A client of etcd (3.4 to 3.6) over its JSON gateway, on asyncio and aiohttp.

For one event loop's thread. The client owns its connections; `close` gives them back. Every request has a time limit, and a
member that does not keep it is left for the next one: a put to a follower that has no leader hangs for 7 s and is then
refused (which is why every request says that it wants a member with a leader), a stopped process takes connections and says
nothing for ever.

    ask ──answered──> the value, or Refused
     │ not answered within ATTEMPT, no majority: the next member
     ├──what was asked may be done twice, or was certainly not done, and `within` is not over──> ask
     └──otherwise──> Unavailable: whether it was done is unknown

Which requests may be done twice: reads, keeping leases, grants of a lease with a number of our own, puts that say so, and
transactions that say so: those that create, for what they have created makes them fail the second time.
"""

import asyncio
import base64
import io
import json
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import aiohttp

from tcp_proxy.control.etcd.errors import (
    NO_LOGIN,
    UNAUTHENTICATED,
    EtcdError,
    NotAllowed,
    Refused,
    TooLarge,
    Unavailable,
    of_answer,
)
from tcp_proxy.control.etcd.values import (
    Compare,
    Done,
    Found,
    Json,
    KeyValue,
    Operation,
    Put,
    done,
    encoded,
    key_value,
    range_end,
    transaction,
)

Value = TypeVar("Value")
ATTEMPT = 1.5  # seconds for one member to answer: an election takes 1.3 to 1.5, an answer milliseconds
CONNECT = 1.0  # seconds of these
WITHIN = 5.0  # seconds for a request, whoever answers it
PAUSE = 0.1  # seconds when all members have been asked in vain
PAGE = 5000  # keys of one answer: about a megabyte
TURN = 500  # of them that are read in one turn of the loop: a millisecond
MOST_BYTES = 128 * 1024 * 1024  # of an answer, or of a line of a stream
LARGE = 1024 * 1024  # bytes of a request that aiohttp sends in parts
WRITES = frozenset({"kv/put", "kv/txn", "lease/grant", "lease/keepalive", "lease/revoke"})
MOST_OPERATIONS = 128  # of a transaction: --max-txn-ops of a member says otherwise only where somebody has changed it


class Client:
    """Raises EtcdError, for whatever goes wrong."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: ssl.SSLContext | None = None,
        user: str = "",
        password: str = "",
        attempt: float = ATTEMPT,
    ) -> None:
        """`endpoints`: "http://host:port" or "https://host:port"."""
        self.endpoints = tuple(url.rstrip("/") for url in endpoints)
        self.attempt = attempt
        self._user, self._password = user, password
        self._token = ""
        self._may_write, self._is_quiet = asyncio.Event(), asyncio.Event()  # `hold`
        self._may_write.set()
        self._writing = 0  # requests
        self._at = random.randrange(len(self.endpoints))  # nodes that start together go to different members
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=0, keepalive_timeout=60.0)
        self._http = aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())

    def __repr__(self) -> str:
        return f"<etcd Client of {self.endpoint}, one of {len(self.endpoints)}>"

    @property
    def endpoint(self) -> str:
        """The member that is asked now."""
        return self.endpoints[self._at]

    async def close(self) -> None:
        await self._http.close()

    async def hold(self) -> None:
        """Whoever writes waits from now on, until `release`. This returns when what was under way is over."""
        self._may_write.clear()
        while self._writing:
            self._is_quiet.clear()
            await self._is_quiet.wait()

    def release(self) -> None:
        self._may_write.set()

    # -- keys

    async def get(self, key: str, serializable: bool = False) -> Found:
        """`serializable`: what the member knows, without asking the others."""
        if serializable:
            return self._found(await self.ask("kv/range", {"key": encoded(key), "serializable": True}, True, alone=True))
        return await self._range({"key": encoded(key)})

    async def read_all(self, prefix: str, page: int = PAGE) -> Found:
        """Every key that begins so, in order, as all were at one revision. Refused, if that is compacted meanwhile."""
        kvs: list[KeyValue] = []
        async with aclosing(self.pages(prefix, page)) as pages:
            async for found in pages:
                kvs += found.kvs
        return Found(tuple(kvs), found.revision, found.cluster)

    async def pages(self, prefix: str, page: int = PAGE) -> AsyncGenerator[Found, None]:
        """The same in parts, at least one: each is asked for before the one before it is looked at, for a member is as long
        about a part as its reader. To be closed (`aclosing`)."""
        body: Json = {"key": encoded(prefix), "range_end": range_end(prefix), "limit": str(page)}
        asked: asyncio.Task[Json] | None = asyncio.create_task(self.ask("kv/range", body, True))
        first: Found | None = None
        try:
            while asked is not None:
                found, kvs, behind = understood(self.endpoint, _part, await asked)
                first = first or found
                asked = None
                if found.more:
                    body = {**body, "key": behind, "revision": str(first.revision)}
                    asked = asyncio.create_task(self.ask("kv/range", body, True))
                yield Found(await self._in_turns(kvs), first.revision, first.cluster, found.more)
        finally:
            if asked is not None:
                asked.cancel()

    async def _in_turns(self, kvs: Sequence[Json]) -> tuple[KeyValue, ...]:
        """Whatever else the loop has to do, such as to send a request, is not held up for long."""
        read: list[KeyValue] = []
        for begin in range(0, len(kvs), TURN):
            read += understood(self.endpoint, lambda at=begin: list(map(key_value, kvs[at : at + TURN])))
            await asyncio.sleep(0)
        return tuple(read)

    async def put(self, put: Put, repeats: bool = False, within: float = WITHIN) -> int:
        """The store's revision. `repeats`: it is sent again where nobody knows whether it was done."""
        body = await self.ask("kv/put", put.as_json(), repeats, within)
        return understood(self.endpoint, lambda: int(body["header"]["revision"]))

    async def transact(
        self,
        compares: Sequence[Compare],
        then: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
        repeats: bool = False,
        within: float = WITHIN,
    ) -> Done:
        """At most MOST_OPERATIONS compares, and as many operations in each branch."""
        body = await self.ask("kv/txn", transaction(tuple(compares), tuple(then), tuple(otherwise)), repeats, within)
        return understood(self.endpoint, done, body)

    # -- leases

    async def grant(self, seconds: int, within: float = WITHIN) -> int:
        """A new lease's number. etcd gives 2 seconds at least, and more after a change of its leader."""
        number = random.randrange(1, 1 << 62)  # ours, so that it may be asked twice
        try:
            await self.ask("lease/grant", {"TTL": str(seconds), "ID": str(number)}, True, within)
        except Refused as error:
            if "already exists" not in str(error):  # we were not told of our own success
                raise
        return number

    async def keep_alive(self, leases: Sequence[int], within: float = WITHIN) -> dict[int, int]:
        """The seconds that each has from now on; 0: there is no such lease any more."""
        bodies = "\n".join(json.dumps({"ID": str(number)}) for number in leases)
        text = await self._asked("lease/keepalive", bodies.encode(), True, within)
        kept = understood(self.endpoint, self._kept, text)
        return {number: kept.get(number, 0) for number in leases}

    def _kept(self, text: bytes) -> dict[int, int]:
        found = [json.loads(line) for line in text.splitlines()]
        wrong = next((body for body in found if "error" in body), None)
        if wrong is not None:
            raise of_answer(self.endpoint, 200, wrong)
        return {int(body["result"]["ID"]): int(body["result"].get("TTL", 0)) for body in found}

    async def revoke(self, lease: int, within: float = WITHIN) -> None:
        """With all its keys. One that is gone already is no error."""
        try:
            await self.ask("lease/revoke", {"ID": str(lease)}, True, within)
        except Refused as error:
            if "lease not found" not in str(error):
                raise

    # -- the members

    async def status(self) -> Json:
        """Of the member that is asked now: version, dbSize, leader, raftIndex, errors …"""
        return await self.ask("maintenance/status", {}, True, alone=True)

    # -- requests

    async def ask(self, path: str, body: Json, repeats: bool, within: float = WITHIN, alone: bool = False) -> Json:
        """A request with one answer. `repeats`: it may be done twice; `alone`: by a member that knows of no leader, too."""
        text = await self._asked(path, json.dumps(body).encode(), repeats, within, alone)
        found: Json = understood(self.endpoint, json.loads, text)
        return found

    async def _range(self, body: Json) -> Found:
        return self._found(await self.ask("kv/range", body, True))

    def _found(self, answer: Json) -> Found:
        def read() -> Found:
            header, kvs = answer["header"], tuple(map(key_value, answer.get("kvs", ())))
            return Found(kvs, int(header["revision"]), int(header["cluster_id"]), bool(answer.get("more")))

        return understood(self.endpoint, read)

    async def _asked(self, path: str, body: bytes, repeats: bool, within: float, alone: bool = False) -> bytes:
        if path not in WRITES:
            return await self._tried(path, body, repeats, within, alone)
        while not self._may_write.is_set():
            await self._may_write.wait()
        self._writing += 1
        try:
            return await self._tried(path, body, repeats, within, alone)
        finally:
            self._writing -= 1
            self._is_quiet.set()

    async def _tried(self, path: str, body: bytes, repeats: bool, within: float, alone: bool) -> bytes:
        loop = asyncio.get_running_loop()
        until, tried = loop.time() + within, 0
        while True:
            at = self._at
            try:
                left = min(self.attempt, max(0.05, until - loop.time()))
                return await self._attempt(self.endpoint, path, body, left, alone)
            except Unavailable as error:
                self.leave(at)
                tried += 1
                pause = PAUSE if tried % len(self.endpoints) == 0 else 0.0
                if not (repeats or error.is_certain) or loop.time() + pause >= until:
                    raise
                await asyncio.sleep(pause)

    def leave(self, at: int | None = None) -> None:
        """Ask the next member, if none has left that one meanwhile."""
        if at is None or at == self._at:
            self._at = (self._at + 1) % len(self.endpoints)

    async def _attempt(self, endpoint: str, path: str, body: bytes, seconds: float, alone: bool) -> bytes:
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT, seconds))
        for has_logged_in in (False, True):
            async with self.request(endpoint, path, body, limit, alone) as answer:
                text = await _whole(endpoint, answer)
            if answer.status == 200:
                return text
            error = of_answer(endpoint, answer.status, _json(text))
            if has_logged_in or not self.is_login_needed(error):
                raise error
            await self.login(endpoint, limit)
        raise AssertionError("the second time returns or raises")

    def is_login_needed(self, error: EtcdError) -> bool:
        """There is no token, or it is none any more."""
        return bool(self._user) and isinstance(error, NotAllowed) and error.code == UNAUTHENTICATED

    async def login(self, endpoint: str, limit: aiohttp.ClientTimeout) -> None:
        body = json.dumps({"name": self._user, "password": self._password}).encode()
        self._token = ""
        async with self.request(endpoint, "auth/authenticate", body, limit) as answer:
            text = await _whole(endpoint, answer)
        found = _json(text)
        if answer.status == 200 and isinstance(found, dict):
            self._token = str(found.get("token", ""))
            return
        error = of_answer(endpoint, answer.status, found)
        if NO_LOGIN not in str(error):
            raise error

    @asynccontextmanager
    async def request(
        self, endpoint: str, path: str, body: bytes, limit: aiohttp.ClientTimeout, alone: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, whatever its status. The body is whole, for of one in open chunks a member does not read a byte."""
        headers = {"Content-Type": "application/json"}
        if not alone:
            headers["Grpc-Metadata-hasleader"] = "true"
        if self._token:
            headers["Authorization"] = self._token  # `Bearer` only from 3.7 on
        url = f"{endpoint}/v3/{path}"
        try:
            data = io.BytesIO(body) if len(body) > LARGE else body
            how: Any = {"data": data, "headers": headers, "timeout": limit, "allow_redirects": False}
            async with self._http.post(url, **how) as answer:
                yield answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"{endpoint} cannot be connected to: {_words(error)}", is_certain=True) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{endpoint} did not answer: {_words(error)}") from error


def understood(endpoint: str, read: Callable[..., Value], *args: Any) -> Value:
    """What is made of an answer. Raises Refused for one that no etcd gives."""
    try:
        return read(*args)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Refused(f"{endpoint} answers what etcd does not: it is another program") from None


async def _whole(endpoint: str, answer: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for chunk in answer.content.iter_any():
        text += chunk
        if len(text) > MOST_BYTES:
            raise TooLarge(f"{endpoint} answers with more than {MOST_BYTES} bytes")
    return bytes(text)


def _part(answer: Json) -> tuple[Found, list[Json], str]:
    """An answer but for its keys; these; and the first key that may come after them."""
    header, kvs, more = answer["header"], list(answer.get("kvs", ())), bool(answer.get("more"))
    behind = base64.b64encode(base64.b64decode(kvs[-1]["key"]) + b"\0").decode() if more else ""
    return Found((), int(header["revision"]), int(header["cluster_id"]), more), kvs, behind


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _words(error: BaseException) -> str:
    return str(error) or ("it took too long" if isinstance(error, TimeoutError) else type(error).__name__)
