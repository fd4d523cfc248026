"""The field lines of a head: split strictly, and what a proxy must know of them worked out once.

Pure. `read_fields` takes the bytes between the first line and the empty line. What is not exactly `name:value CRLF`, line
after line, is Refused: obs-fold, a bare CR or LF, space before the colon, NUL and other control characters (RFC 9112, 5).
`read_answer_fields` is for targets and takes what has one meaning only, though it is not what it should be: the same
length several times, a control character in a value, an option of Connection that is no token.

Heads repeat: of one client all that changes is the first line. What was worked out for a block is remembered therefore,
for blocks of a KiB at the most and the last 512 of them, so that nobody can fill the memory with them.
"""

import re
from functools import lru_cache
from itertools import product
from typing import Final

from tcp_proxy.sansio.http1 import login

FIELD: Final = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\n-\x1f\x7f]*)\r\n", re.MULTILINE)
ANSWER_FIELD: Final = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00\r\n]*)\r\n", re.MULTILINE)
OPTION: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
DIGITS: Final = re.compile(rb"[0-9]{1,18}")
REMEMBERED, REMEMBERED_SIZE = 512, 1024
# In Via: once more for each time that a message has come through one of us. Nobody has so many of us in a row.
OURSELVES: Final = re.compile(rb"(?:HTTP/)?1\.[01][ \t]+tcp_proxy(?:[ \t].*)?", re.IGNORECASE)
MOST_HOPS: Final = 10

# Meant for the next hop only (RFC 9110, 7.6.1), with those of old proxies. Transfer-Encoding is one too, but the body is
# passed on in the same coding, so the field stays with it.
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate", b"proxy-authorization",
})  # fmt: skip
# What says who asked. We say it ourselves; what comes in counts only from who is trusted.
FORWARDED: Final = frozenset({
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded",
})  # fmt: skip
# CGI and what came of it (WSGI, FastCGI, PHP) make a variable of each name and have one character, `_`, for all that is no
# letter or digit: X_Forwarded-For is X-Forwarded-For there. No proxy writes it so; it is taken away, whoever it is from.
LOOKALIKES = (
    frozenset(
        b"x%cforwarded%c%b" % (one, two, what)
        for one, two in product(b"!#$%&'*+-.^_`|~", repeat=2)
        for what in (b"for", b"proto", b"host", b"port")
    )
    - FORWARDED
)
# What we say of a client's certificate; nobody else does, in whatever spelling CGI takes for it.
CERTIFICATE: Final = b"x_client_certificate_"
_AS_CGI: Final = bytes(c if chr(c).isalnum() and c < 128 else 95 for c in range(256))
# Nobody can have these taken away by naming them in Connection: they are for everybody on the way. They go on once, and
# in one spelling.
ESSENTIAL: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"max-forwards"})
REWRITTEN: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
# The next hop gets one from us when it gets none from the last; the last two where requests are traced.
MADE: Final = frozenset({b"x-request-id", b"date", b"traceparent", b"tracestate"})
NEVER_KEPT: Final = HOP_BY_HOP | FORWARDED | LOOKALIKES
NO_TRAILER: Final = NEVER_KEPT | ESSENTIAL
# Their values are kept; of all other fields only the lines.
KNOWN: Final = NEVER_KEPT | ESSENTIAL | MADE | login.FIELDS | frozenset({b"user-agent", b"referer", b"via"})

CHUNKED: Final = -1  # instead of a length
UNSAID: Final = -2


class Refused(ValueError):
    """A message that is not what it should be. `status` is the answer it gets."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Fields:
    """`values`: of the KNOWN ones, by lower-case name. `kept`: the lines for the next hop. `length`: of the body, CHUNKED
    or UNSAID. `options`: those of Connection, in lower case. `has_login`: one that belongs to the connection."""

    __slots__ = ("count", "has_login", "kept", "length", "options", "pairs", "values")

    def __init__(self, block: bytes, is_answer: bool = False) -> None:
        pairs = FIELD.findall(block)
        if len(pairs) != block.count(b"\n"):
            if is_answer:
                pairs = ANSWER_FIELD.findall(block)
            if not is_answer or len(pairs) != block.count(b"\n"):
                raise Refused(400, _why(block))
        self.count = len(pairs)
        known, is_plain = KNOWN, True
        values: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            key = name.lower()
            if key in known:
                bare = value.strip(b" \t")
                values.setdefault(key, []).append(bare)
                if key in ESSENTIAL and value != b" " + bare:
                    is_plain = False
        self.values = values
        if b"via" in values and not is_answer:
            _require_no_loop(values[b"via"])
        self.options = _options(values[b"connection"], is_answer) if b"connection" in values else frozenset()
        self.length = UNSAID
        if not REWRITTEN.isdisjoint(values):
            came = dict(values)
            self.length = _length(values, is_answer)
            if b"expect" in values:
                values[b"expect"] = _expectations(values[b"expect"])
            is_plain = is_plain and values == came
        self.pairs = pairs if is_plain else _plain(pairs, values)
        dropped = NEVER_KEPT.intersection(values) | self.options - ESSENTIAL
        if b"certificate" in block.lower():
            names = {name.lower() for name, _ in pairs}
            dropped = dropped.union(name for name in names if name.translate(_AS_CGI).startswith(CERTIFICATE))
        self.kept = block if is_plain and not dropped else self.without(dropped)
        for name in MADE & self.options:
            values.pop(name, None)  # what does not go on is not there
        self.has_login = not login.FIELDS.isdisjoint(values) and login.has_login(values)

    def __repr__(self) -> str:
        return f"<Fields {self.count}, length {self.length}>"

    def copied(self) -> "Fields":
        """For who says another thing: others may have this one (it is remembered)."""
        copy = Fields(b"")
        copy.count, copy.has_login, copy.kept, copy.length = self.count, self.has_login, self.kept, self.length
        copy.options, copy.pairs, copy.values = self.options, self.pairs, self.values
        return copy

    def without(self, names: frozenset[bytes]) -> bytes:
        """The lines without these, beside those that never go on."""
        dropped = names | (self.options - ESSENTIAL)
        return b"".join(
            [b"%b:%b\r\n" % pair for pair in self.pairs if (key := pair[0].lower()) not in dropped and key not in NEVER_KEPT]
        )

    def replaced(self, name: bytes, value: bytes) -> "Fields":
        """The same with another value for a field, which is one of the ESSENTIAL ones."""
        pairs = [(one, b" " + value if one.lower() == name else other) for one, other in self.pairs]
        return Fields(b"".join([b"%b:%b\r\n" % pair for pair in pairs]))

    def value(self, name: bytes) -> bytes:
        """All values of a KNOWN field as one list; empty when it is not there."""
        return b", ".join(self.values.get(name, ()))


@lru_cache(REMEMBERED)
def _remembered(block: bytes) -> Fields:
    return Fields(block)


@lru_cache(REMEMBERED)
def _remembered_answer(block: bytes) -> Fields:
    return Fields(block, is_answer=True)


def read_fields(block: bytes) -> Fields:
    """Raises Refused."""
    return _remembered(block) if len(block) <= REMEMBERED_SIZE else Fields(block)


def read_answer_fields(block: bytes) -> Fields:
    """Those of a target. Raises Refused."""
    return _remembered_answer(block) if len(block) <= REMEMBERED_SIZE else Fields(block, is_answer=True)


def read_trailers(block: bytes) -> Fields:
    """The same for what may follow a chunked body: nothing of it may change what the message is."""
    fields = read_fields(block)
    if not NO_TRAILER.isdisjoint(fields.values):
        raise Refused(400, "a trailer that belongs into the head")
    return fields


def members(lines: list[bytes]) -> list[bytes]:
    """Of a list in one or more lines; empty ones do not count (RFC 9110, 5.6.1.2)."""
    return [member for part in b",".join(lines).split(b",") if (member := part.strip(b" \t"))]


def _require_no_loop(lines: list[bytes]) -> None:
    """A request that goes round and round, for an app leads back to itself by a way that the configuration does not show."""
    if sum(OURSELVES.fullmatch(member) is not None for member in members(lines)) >= MOST_HOPS:
        raise Refused(508, f"a request that was here {MOST_HOPS} times, see Via: an app leads back to itself")


def _options(lines: list[bytes], is_answer: bool) -> frozenset[bytes]:
    options = [option.lower() for option in members(lines)]
    tokens = [option for option in options if OPTION.fullmatch(option)]
    if len(tokens) != len(options) and not is_answer:
        raise Refused(400, "a connection option that is no token")
    return frozenset(tokens)


def _expectations(lines: list[bytes]) -> list[bytes]:
    """One `100-continue` is as good as many; others as they came."""
    return [b"100-continue"] if {member.lower() for member in members(lines)} == {b"100-continue"} else lines


def _length(values: dict[bytes, list[bytes]], is_answer: bool) -> int:
    """What it is found to be is put into `values`, in the form in which it goes on."""
    codings, lengths = values.get(b"transfer-encoding"), values.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise Refused(400, "both a transfer coding and a content length")
        values[b"transfer-encoding"] = [_coding(codings)]
        return CHUNKED
    if lengths is None:
        return UNSAID
    said = b",".join(lengths).split(b",") if is_answer else lengths
    numbers = {int(text) if DIGITS.fullmatch(text) else -1 for text in (text.strip(b" \t") for text in said)}
    if len(said) != 1 and (len(numbers) != 1 or not is_answer):
        raise Refused(400, "more than one content length")
    length = numbers.pop()
    if length < 0:
        raise Refused(400, "a content length that is no number")
    values[b"content-length"] = [b"%d" % length]  # with zeros before it there are readers who take it for octal
    return length


def _coding(lines: list[bytes]) -> bytes:
    """The one that we know. RFC 9112, 6.1: another one before it is 501; 6.3: without it at the end nobody knows the end."""
    came = members(lines)
    codings = [coding.lower() for coding in came]
    if codings == [b"chunked"] and len(lines) == 1:
        return came[0]
    if codings[-1:] == [b"chunked"] and codings.count(b"chunked") == 1 and all(map(OPTION.fullmatch, codings)):
        raise Refused(501, "a transfer coding other than chunked alone")
    raise Refused(400, "a transfer coding other than chunked alone")


def _plain(pairs: list[tuple[bytes, bytes]], values: dict[bytes, list[bytes]]) -> list[tuple[bytes, bytes]]:
    """The lines as they came; but where a message ends, and whose it is, is said so that nobody can read it otherwise."""
    left = {key: list(values[key]) for key in ESSENTIAL if key in values}
    plain = []
    for name, value in pairs:
        key = name.lower()
        if key not in left:
            plain.append((name, value))
        elif left[key]:
            plain.append((name, b" " + left[key].pop(0)))
    return plain


def _why(block: bytes) -> str:
    """What is wrong with the first line that is."""
    for line in block.split(b"\r\n")[:-1]:
        if FIELD.fullmatch(line + b"\r\n"):
            continue
        if line[:1] in (b" ", b"\t"):
            return "a folded field line"
        if b"\n" in line or b"\r" in line:
            return "a bare CR or LF"
        name, colon, _ = line.partition(b":")
        if not colon:
            return "a field line without a colon"
        if not name or OPTION.fullmatch(name):
            return "a control character in a field" if name else "a field without a name"
        return "space before a colon" if name[-1:] in (b" ", b"\t") else "a field name that is no token"
    return "a head that does not end as it should"
