"""What of a check is never shown: a file may hold logins, and views, logs and events have other readers than the file.

Pure. The values of request headers are hidden but for those that hold no login, and all that is sent or said to be a user.
A target or a script may say them again, whole or by the word, and what they say is evidence, and a line of the log: so
texts of checks go through `hidden` before anybody has them. What has fewer than WHOLE characters is hidden where it is a
word of its own, what has fewer than LEAST is no secret there, but a user's name; nor is what the configuration itself shows
(`expect`).
"""

import base64
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

from tcp_proxy.config.model import Check
from tcp_proxy.sansio.escapes import decoded, escaped

LEAST, WHOLE = 2, 4  # characters
WORD = re.compile(rb"[^\0-\x20\x7f\"'`,;:=<>(){}\[\]]{%d,}" % LEAST)
OF_THE_PROTOCOL = re.compile(r"HTTP/[0-9.]+")
CUT = "…"  # where evidence ends early
# Of a script's environment: what says nothing of a login.
PLAIN_NAMES = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "TERM", "TZ", "TMPDIR", "HOSTNAME"}
)
SECRET_NAME = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|LOGIN|DSN|URL|URI", re.IGNORECASE)
HIDDEN = "***"
HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "connection", "content-type", "host", "user-agent"})


def without_secrets(check: Check) -> Check:
    """As it may be shown. It can still be loaded, and is another check then."""
    headers = tuple((name, value if name.lower() in HARMLESS else HIDDEN) for name, value in check.headers)
    return dataclasses.replace(
        check,
        headers=headers,
        body=HIDDEN if check.body else "",
        send=HIDDEN if check.send else "",
        user=HIDDEN if check.user else check.user,
        environment=without_values(check.environment),
    )


def without_values(environment: tuple[str, ...]) -> tuple[str, ...]:
    """Of the variables of a script (NAME, NAME=value or *) the names."""
    return tuple(f"{name}={HIDDEN}" if sign else name for name, sign, _ in (one.partition("=") for one in environment))


def secrets_of(check: Check, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What must not stand in a text about it, the longest first."""
    found = {form for value in _values_of(check) for form in _forms(value)}
    shown = {check.expect, *(word for form in _forms(decoded(check.expect)) for word in form.split())}
    found = {text for text in found - shown if len(text) >= LEAST and not OF_THE_PROTOCOL.fullmatch(text)}
    user = {check.user} if check.user else set()
    return _longest_first(found | user | set(secrets_in(check.environment, environ)))


def secrets_in(environment: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The same, of the variables of a script: those that are said, and of all that we have ("*") those that look like it."""
    found: set[str] = set()
    for word in environment:
        name, has_value, value = word.partition("=")
        if has_value:
            found.add(value)
        elif name == "*":
            found |= {value for key, value in environ.items() if SECRET_NAME.search(key) and key not in PLAIN_NAMES}
        elif name not in PLAIN_NAMES:
            found.add(environ.get(name, ""))
    return _longest_first(text for text in found if len(text) >= LEAST)


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A text without them, also where it was cut off in the middle of one."""
    for secret in secrets:
        if len(secret) < WHOLE:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
            if CUT in text:
                text = _without_beginning(text, secret)
    return text


def _without_beginning(text: str, secret: str) -> str:
    before, mark, after = text.partition(CUT)
    quote = '"' if before.endswith('"') else ""
    before = before.removesuffix(quote)
    for size in range(len(secret) - 1, 1, -1):
        if before.endswith(secret[:size]):
            return f"{before[:-size]}{HIDDEN}{quote}{mark}{after}"
    return text


def _values_of(check: Check) -> Iterator[bytes]:
    for name, value in check.headers:
        if name.lower() not in HARMLESS:
            yield value.encode()
            yield from _login(value)
    yield check.body.encode()
    yield decoded(check.send)


def _login(value: str) -> Iterator[bytes]:
    """What the scheme Basic has coded."""
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            login = base64.b64decode(coded.strip(), validate=True)
        except ValueError:
            return
        yield login
        yield login.partition(b":")[2]


def _forms(value: bytes) -> Iterator[str]:
    """The whole and its words, as they are and as evidence writes them."""
    for part in (value, value.strip(), *WORD.findall(value)):
        yield part.decode("utf-8", "replace")
        yield escaped(part, len(part))[1:-1]


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts), key=lambda text: (-len(text), text)))
