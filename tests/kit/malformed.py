"""Messages that are malformed, or that two readers could take differently, and the status each request is answered with.

`REQUESTS` are (name, bytes, status): each is refused, none goes on. `ANSWERS` are (name, bytes): a target that says so is
as good as dead, and the client gets 502. Names say what is wrong with them.
"""

# ruff: noqa: E501

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _lines():
    """First lines that are none, or none of ours."""
    line = {
        "lower-case version": b"GET / http/1.1", "no version": b"GET /", "two spaces": b"GET  / HTTP/1.1",
        "space at the end": b"GET / HTTP/1.1 ", "space at the beginning": b" GET / HTTP/1.1",
        "tab between": b"GET\t/ HTTP/1.1", "tab before version": b"GET /\tHTTP/1.1", "space in the path": b"GET /a b HTTP/1.1",
        "no method": b"/ HTTP/1.1", "empty path": b"GET  HTTP/1.1", "method with a slash": b"G/T / HTTP/1.1",
        "method with a colon": b"GET: / HTTP/1.1", "method in quotes": b'"GET" / HTTP/1.1', "method with a NUL": b"GE\0T / HTTP/1.1",
        "method of high bytes": b"G\xcbT / HTTP/1.1", "path with a NUL": b"GET /\0 HTTP/1.1", "path with a CR": b"GET /\r HTTP/1.1",
        "path of high bytes": b"GET /\xff HTTP/1.1", "path with DEL": b"GET /\x7f HTTP/1.1", "a fragment": b"GET /a#b HTTP/1.1",
        "version without minor": b"GET / HTTP/1", "version with a comma": b"GET / HTTP/1,1", "version of three": b"GET / HTTP/1.1.1",
        "two-digit minor": b"GET / HTTP/1.10", "signed version": b"GET / HTTP/+1.1", "hexadecimal version": b"GET / HTTP/1.a",
        "another protocol": b"GET / HTTQ/1.1", "only a name": b"GET", "ICY": b"GET / ICY/1.1", "vertical tab": b"GET\x0b/ HTTP/1.1",
        "relative path": b"GET a HTTP/1.1", "asterisk for GET": b"GET * HTTP/1.1", "asterisk and more": b"OPTIONS *a HTTP/1.1",
        "another scheme": b"GET ftp://a/ HTTP/1.1", "a URI without host": b"GET http:///a HTTP/1.1", "user in the URI": b"GET http://u@a/ HTTP/1.1",
        "a URI with a bad port": b"GET http://a:b/ HTTP/1.1", "CONNECT to a path": b"CONNECT / HTTP/1.1",
        "CONNECT without port": b"CONNECT a HTTP/1.1", "CONNECT to a URI": b"CONNECT http://a/ HTTP/1.1",
        "a backslash for a path": b"GET \\ HTTP/1.1", "question mark for a path": b"GET ?a HTTP/1.1", "a response": b"HTTP/1.1 200 OK",
        "a BOM": b"\xef\xbb\xbfGET / HTTP/1.1", "TLS": b"\x16\x03\x01\x02\x00\x01", "a method of nothing": b" / HTTP/1.1",
    }  # fmt: skip
    for name, text in line.items():
        yield name, text + b"\r\nHost: a\r\n\r\n", 400
    for version in (b"0.9", b"2.0", b"3.0", b"0.0", b"9.9"):
        yield f"HTTP/{version.decode()}", b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n", 505
    yield "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505


def _fields():
    """Lines of a head that are no fields."""
    line = {
        "space before the colon": b"X : y", "tab before the colon": b"X\t: y", "space in a name": b"X Y: z", "folded": b"X: y\r\n z",
        "folded by a tab": b"X: y\r\n\tz", "folded first line": None, "no colon": b"X", "empty name": b": y",
        "a name of high bytes": b"X\xe4: y", "a name with a NUL": b"X\0: y", "a name in brackets": b"(X): y", "a name with a slash": b"X/Y: z",
        "a name with @": b"X@Y: z", "a NUL": b"X: \0", "a bell": b"X: \x07", "a DEL": b"X: \x7f", "a backspace": b"X: \x08",
        "an escape": b"X: \x1b[0m", "a form feed": b"X: \x0c", "bare LF": b"X: y\nZ: z", "bare CR": b"X: y\rZ: z", "LF CR": b"X: y\n\rZ: z",
        "CR CR LF": b"X: y\r", "bare LF and Content-Length": b"X: y\nContent-Length: 5", "bare CR and Content-Length": b"X: y\rContent-Length: 5",
        "only a space": b" ", "only a tab": b"\t", "only a colon": b":", "a comma in a name": b"X,Y: z", "braces": b"{X}: y",
        "a CR at the beginning": b"\rX: y", "an LF at the beginning": b"\nX: y", "Host twice": b"Host: a", "another Host": b"Host: b",
        "an option that is no token": b"Connection: a/b", "an option in quotes": b'Connection: "close"',
    }  # fmt: skip
    for name, text in line.items():
        if text is None:
            yield name, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400
        else:
            yield name, GET + text + b"\r\n\r\n", 400
    for name, host in {
        "no Host": None, "a Host with a path": b"a/b", "a Host with user": b"u@a", "a Host with a space": b"a b",
        "a Host of two": b"a, b", "a Host with a bad port": b"a:x", "a Host with a long port": b"a:123456", "a Host in half a bracket": b"[::1",
        "a Host with a question mark": b"a?b", "a Host with a hash": b"a#b", "a Host of high bytes": b"\xc3\xa4", "a Host that is a URI": b"http://a",
    }.items():  # fmt: skip
        yield name, b"GET / HTTP/1.1\r\n" + (b"" if host is None else b"Host: " + host + b"\r\n") + b"\r\n", 400
    yield "an absolute URI without Host", b"GET http://a/ HTTP/1.1\r\n\r\n", 400
    yield "bare LFs only", b"GET / HTTP/1.1\nHost: a\n\n", 400
    yield "bare LF after the first line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400
    yield "bare LF at the end", GET + b"\n", 400
    yield "bare CRs only", b"GET / HTTP/1.1\rHost: a\r\r", 400
    yield "three empty lines", b"\r\n\r\n\r\n" + GET + b"\r\n", 400


def _lengths():
    """Framing that two readers could see differently."""
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    field = {
        "length and coding": both[:-5], "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "the same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "a list of lengths": b"Content-Length: 5, 6\r\n\r\n", "a list of the same": b"Content-Length: 5, 5\r\n\r\n",
        **{f"length {value.decode('latin-1')!r}": b"Content-Length: " + value + b"\r\n\r\n" for value in (
            b"", b"-1", b"+5", b"5 5", b"0x5", b"5.0", b"5e1", b"five", b"1_000", b"9" * 19, b"9" * 400, b"5;", b"\xb2", b"5,", b",5", b"'5'", b'"5"',
        )},
        **{f"coding {value.decode('latin-1')!r}": b"Transfer-Encoding: " + value + b"\r\n\r\n" for value in (
            b"", b",", b"gzip", b"chunked, gzip", b"chunked, chunked", b"identity", b"chunked, identity", b"xchunked", b"chunked, gzip, chunked",
            b"chunkedx", b"chunked;q=1", b'"chunked"', b"gzip;q=1, chunked", b"\x0bgzip, chunked", b"chunked chunked", b"\x0bchunked"[1:] + b"\xa0", b"deflate", b"trailers",
            b"cow", b"c hunked",
        )},
        "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "two codings, one unknown": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n",
        "space before the colon of a coding": b"Transfer-Encoding : chunked\r\n\r\n", "tab before the colon of a length": b"Content-Length\t: 5\r\n\r\n",
        "a coding folded": b"Transfer-Encoding:\r\n chunked\r\n\r\n", "a vertical tab before a coding": b"Transfer-Encoding:\x0bchunked\r\n\r\n",
        "a NUL in a length": b"Content-Length: 5\0\r\n\r\n", "a CR before a coding": b"X: y\rTransfer-Encoding: chunked\r\n\r\n",
        "an LF before a coding": b"X: y\nTransfer-Encoding: chunked\r\n\r\n", "coding behind a folded line": b"X: y\r\n z\r\nTransfer-Encoding: chunked\r\n\r\n",
    }  # fmt: skip
    for name, text in field.items():
        yield name, POST + text, 400
    for value in (b"gzip, chunked", b"identity, chunked", b"gzip, deflate,, CHUNKED"):  # where the body ends is known
        yield f"coding {value.decode()!r}", POST + b"Transfer-Encoding: " + value + b"\r\n\r\n", 501
    yield "a coding in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400


CHUNK_FAULTS = {
    "an empty extension": b"5;\r\nhello\r\n0\r\n\r\n", "a long extension": b"5;" + b"a" * 9000 + b"\r\n", "an extension without end": b"5;" + b"a" * 9000,
    "many extensions": b"1;" + b"a" * 3000 + b"\r\nx\r\n" + (b"1;" + b"a" * 3000 + b"\r\nx\r\n") * 5, "an extension of two tokens": b"5;a b\r\nhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nhello\r\n0\r\n\r\n", "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n", "a NUL in an extension": b"5;a\0\r\nhello\r\n",
    "a line end in a quoted extension": b'5;a="\r\nhello"\r\n0\r\n\r\n', "an escaped line end": b'5;a="\\\r\nhello"\r\n', "an open quote": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "an extension without value": b"5;a=\r\nhello\r\n0\r\n\r\n", "a space behind an extension": b"5;a \r\nhello\r\n0\r\n\r\n", "an extension at the end": b"0;\r\n\r\n",
    "a space after the size": b"5 \r\nhello\r\n0\r\n\r\n", "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n", "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a signed size": b"+5\r\nhello\r\n0\r\n\r\n", "a negative size": b"-5\r\nhello\r\n0\r\n\r\n", "no size": b"\r\nhello\r\n0\r\n\r\n", "no number": b"g\r\nhello",
    "a size that overflows": b"f" * 16 + b"\r\n", "a size of many zeros": b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n", "a bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR after the size": b"5\rhello\r\n0\r\n\r\n", "a longer chunk": b"5\r\nhello!\r\n0\r\n\r\n", "a bare LF after the chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR after the chunk": b"5\r\nhello\r0\r\n\r\n", "a size at once after the chunk": b"5\r\nhello0\r\n\r\n", "a length as trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding as trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "Host as trailer": b"0\r\nHost: b\r\n\r\n", "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a bare LF in the trailers": b"0\r\nX: y\nZ: z\r\n\r\n", "a space before a trailer's colon": b"0\r\nX : y\r\n\r\n", "a NUL in a trailer": b"0\r\nX: \0\r\n\r\n",
    "no end of trailers but a request": b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "Connection as trailer": b"0\r\nConnection: close\r\n\r\n",
    "a tab after the size": b"5\t\r\nhello\r\n0\r\n\r\n", "a quoted size": b'"5"\r\nhello\r\n0\r\n\r\n', "an underscore": b"1_0\r\n", "a comma": b"5,5\r\nhello\r\n0\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 2000,
}  # fmt: skip

REQUESTS = [
    *_lines(),
    *_fields(),
    *_lengths(),
    *((f"chunks: {name}", CHUNKED + body, 400) for name, body in CHUNK_FAULTS.items()),
    ("a long first line", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ("a first line without end", b"GET /" + b"a" * 9000, 414),
    ("a long head", GET + b"X: " + b"y" * 70000 + b"\r\n\r\n", 431),
    ("a head without end", GET + b"X: y\r\n" * 11000, 431),
    ("many fields", GET + b"X: y\r\n" * 201 + b"\r\n", 431),
]

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = [
    *((name, line + b"\r\nContent-Length: 0\r\n\r\n") for name, line in {
        "no version": b"200 OK", "lower-case version": b"http/1.1 200 OK", "HTTP/2": b"HTTP/2.0 200 OK", "HTTP/0.9": b"HTTP/0.9 200 OK",
        "no status": b"HTTP/1.1", "no number": b"HTTP/1.1 abc OK", "two digits": b"HTTP/1.1 20 OK", "four digits": b"HTTP/1.1 2000 OK",
        "status 000": b"HTTP/1.1 000 OK", "status 099": b"HTTP/1.1 099 OK", "a signed status": b"HTTP/1.1 +20 OK",
        "a tab": b"HTTP/1.1\t200 OK", "a NUL in the reason": b"HTTP/1.1 200 O\0K", "a CR in the reason": b"HTTP/1.1 200 O\rK",
        "a request": b"GET / HTTP/1.1", "ICY": b"ICY 200 OK", "an empty line first": b"", "a space first": b" HTTP/1.1 200 OK", "text": b"hello",
        "version without minor": b"HTTP/1 200 OK", "a two-digit minor": b"HTTP/1.10 200 OK", "two bare LFs": b"\n\nHTTP/1.1 200 OK", "a bare LF first": b"\nHTTP/1.1 200 OK",
    }.items()),
    *((name, OK + field + b"\r\n\r\n0\r\n\r\n") for name, field in {
        "length and coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked", "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
        "a list of lengths": b"Content-Length: 5, 6", "a list with nothing in it": b"Content-Length: 5,", "a length and nothing": b"Content-Length: 5\r\nContent-Length:",
        "a length in control characters": b"Content-Length: \x0b5", "a coding behind a control character": b"Transfer-Encoding: \x0bchunked", "a negative length": b"Content-Length: -5", "a length that is none": b"Content-Length: a",
        "a huge length": b"Content-Length: " + b"9" * 30, "gzip": b"Transfer-Encoding: gzip", "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
        "chunked twice": b"Transfer-Encoding: chunked, chunked", "an unknown coding": b"Transfer-Encoding: cow", "a folded line": b"X: y\r\n z",
        "space before a colon": b"X : y", "a name with a space": b"X Y: z", "a NUL": b"X: \0", "a bare CR": b"X: y\rZ: z", "a bare CR and a bare LF": b"X: y\rZ: z\nA: b",
        "a bare LF and a folded line": b"X: y\n z", "a bare LF and no colon": b"X: y\nZ",
        "no colon": b"X", "an empty name": b": y", "a control character in a name": b"X\x07: y", "many fields": b"X: y\r\n" * 250 + b"X: y",
        "a long field": b"X: " + b"y" * 70000, "an empty length": b"Content-Length:", "an empty coding": b"Transfer-Encoding:",
    }.items()),
    ("a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("bare LFs only, and a CR", b"HTTP/1.1 200 OK\nX: \ry\nContent-Length: 0\n\n"),
    ("nothing of HTTP", b"\x16\x03\x01\x02\x00\x01"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
]  # fmt: skip

# (name, what a target says, what the client hears of it but for what is added): not as it should be, and of one meaning.
_SAID = b"Content-Length: 5\r\n"
_KEPT = OK + _SAID
TOLERATED = [
    *((name, OK + field + b"\r\n\r\n", _KEPT) for name, field in {
        "the same length twice": b"Content-Length: 5\r\nContent-Length: 5", "a list of the same": b"Content-Length: 5, 5",
        "a list and a line of the same": b"Content-Length: 5,5\r\ncontent-length:5", "the same, with zeros": b"Content-Length: 5\r\nContent-Length: 005",
        "a length with zeros": b"Content-Length: 0000005", "an option with a parameter": b"Connection: keep-alive; x\r\nContent-Length: 5",
        "an option in quotes": b'Connection: "close"\r\nContent-Length: 5', "an option with a slash": b"Connection: a/b, X\r\nX: y\r\nContent-Length: 5",
        "a bare LF behind a field": b"Connection: x\nContent-Length: 5",
    }.items()),
    *((name, line + b"\r\n" + _SAID + b"\r\n", passed + b"\r\n" + _SAID) for name, line, passed in (
        ("status 600", b"HTTP/1.1 600 Odd", b"HTTP/1.1 600 Odd"), ("status 999", b"HTTP/1.1 999", b"HTTP/1.1 999"),
        ("HTTP/1.2", b"HTTP/1.2 200 OK", b"HTTP/1.1 200 OK"), ("HTTP/1.9", b"HTTP/1.9 200 OK", b"HTTP/1.1 200 OK"),
        ("two spaces", b"HTTP/1.1  200 OK", b"HTTP/1.1 200 OK"), ("a control character in the reason", b"HTTP/1.1 200 O\x07K", b"HTTP/1.1 200 "),
    )),
    ("bare LFs only", b"HTTP/1.1 200 OK\nContent-Length: 5\n\n", _KEPT),
    ("a bare LF behind the first line", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", _KEPT),
    ("an empty line of LF alone", _KEPT + b"\n", _KEPT),
    ("a last line of LF alone", _KEPT[:-2] + b"\n\r\n", _KEPT),
    ("a control character in a value", _KEPT + b"X: \x07\x7f\r\n\r\n", _KEPT + b"X: \x07\x7f\r\n"),
]  # fmt: skip
# (name, a chunked body of a target, what the client hears of it)
_CHUNK = b"5\r\nhello\r\n0\r\n\r\n"
TOLERATED_CHUNKS = [
    ("spaces behind the size", b"5   \r\nhello\r\n0 \r\n\r\n", _CHUNK), ("a tab behind the size", b"5\t\r\nhello\r\n0\r\n\r\n", _CHUNK),
    ("spaces behind an extension", b"5;a=b  \r\nhello\r\n0\r\n\r\n", _CHUNK),
]  # fmt: skip
# What everybody may say, and nobody is to hear.
EXTENSIONS = [b";a", b";a=b", b' ; a\t=\t"b;\\"c" ;d', b';a="\xff"', b";" + b"a" * 4000]
