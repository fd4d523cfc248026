"""The field lines of a head: split strictly, and what a proxy must know of them worked out once.

Pure. `read_fields` takes the bytes between the first line and the empty line. What is not exactly `name:value CRLF`, line
after line, is Refused: obs-fold, a bare CR or LF, space before the colon, NUL and other control characters (RFC 9112, 5).

Heads repeat: of one client all that changes is the first line. What was worked out for a block is remembered therefore,
for blocks of a KiB at the most and the last 512 of them, so that nobody can fill the memory with them.
"""

import re
from functools import lru_cache

FIELD = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\n-\x1f\x7f]*)\r\n", re.MULTILINE)
OPTION = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
DIGITS = re.compile(rb"[0-9]{1,18}")
REMEMBERED, REMEMBERED_SIZE = 512, 1024

# Meant for the next hop only (RFC 9110, 7.6.1), with those of old proxies. Transfer-Encoding is one too, but the body is
# passed on in the same coding, so the field stays with it.
HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate", b"proxy-authorization",
})  # fmt: skip
# What says who asked. We say it ourselves; what comes in counts only from who is trusted.
FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
# Nobody can have these taken away by naming them in Connection: they are for everybody on the way.
ESSENTIAL = frozenset({b"host", b"content-length", b"transfer-encoding"})
# Their values are kept; of all other fields only the lines.
KNOWN = HOP_BY_HOP | FORWARDED | ESSENTIAL | frozenset({b"expect", b"x-request-id", b"date", b"user-agent", b"referer"})

CHUNKED = -1  # instead of a length
UNSAID = -2


class Refused(ValueError):
    """A message that is not what it should be. `status` is the answer it gets."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Fields:
    """`values`: of the KNOWN ones, by lower-case name. `kept`: the lines for the next hop. `length`: of the body, CHUNKED
    or UNSAID. `options`: those of Connection, in lower case."""

    __slots__ = ("count", "kept", "length", "options", "pairs", "values")

    def __init__(self, block: bytes) -> None:
        pairs = self.pairs = FIELD.findall(block)
        self.count = len(pairs)
        if len(pairs) != block.count(b"\n"):
            raise Refused(400, _why(block))
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
        self.options = _options(values[b"connection"]) if b"connection" in values else frozenset()
        dropped = (HOP_BY_HOP | FORWARDED) & values.keys() | self.options - ESSENTIAL
        self.kept = block if is_plain and not dropped else self.without(dropped)
        self.length = _length(values)

    def __repr__(self) -> str:
        return f"<Fields {self.count}, length {self.length}>"

    def without(self, names: frozenset[bytes]) -> bytes:
        """The lines without these, beside those that never go on."""
        dropped = names | HOP_BY_HOP | FORWARDED | (self.options - ESSENTIAL)
        return b"".join([_line(*pair) for pair in self.pairs if pair[0].lower() not in dropped])

    def value(self, name: bytes) -> bytes:
        """All values of a KNOWN field as one list; empty when it is not there."""
        return b", ".join(self.values.get(name, ()))


def _line(name: bytes, value: bytes) -> bytes:
    """As it came; but where a message ends, and whose it is, is said so that nobody can read it in another way."""
    return b"%b: %b\r\n" % (name, value.strip(b" \t")) if name.lower() in ESSENTIAL else b"%b:%b\r\n" % (name, value)


@lru_cache(REMEMBERED)
def _remembered(block: bytes) -> Fields:
    return Fields(block)


def read_fields(block: bytes) -> Fields:
    """Raises Refused."""
    return _remembered(block) if len(block) <= REMEMBERED_SIZE else Fields(block)


def read_trailers(block: bytes) -> Fields:
    """The same for what may follow a chunked body: nothing of it may change what the message is."""
    fields = read_fields(block)
    if fields.values.keys() & (HOP_BY_HOP | FORWARDED | ESSENTIAL):
        raise Refused(400, "a trailer that belongs into the head")
    return fields


def _options(lines: list[bytes]) -> frozenset[bytes]:
    options = [option.strip(b" \t").lower() for option in b",".join(lines).split(b",")]
    if any(option and not OPTION.fullmatch(option) for option in options):
        raise Refused(400, "a connection option that is no token")
    return frozenset(filter(None, options))


def _length(values: dict[bytes, list[bytes]]) -> int:
    codings, lengths = values.get(b"transfer-encoding"), values.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise Refused(400, "both a transfer coding and a content length")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Refused(400, "a transfer coding other than chunked alone")
        return CHUNKED
    if lengths is None:
        return UNSAID
    if len(lengths) != 1 or not DIGITS.fullmatch(lengths[0]):
        raise Refused(400, "more than one content length" if len(lengths) != 1 else "a content length that is no number")
    return int(lengths[0])


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
