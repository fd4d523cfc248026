"""The files by which etcd knows this proxy, and this proxy etcd: read by the agent at its start, and by --check.

Reads files, keeps nothing. Each fault is one line that names the file.
"""

import ssl
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")
MOST = 4096  # bytes of a password


class Unusable(Exception):
    """One line for the user: which file, and what is wrong with it."""


def tls_context(ca: str, chain: str, key: str) -> ssl.SSLContext:
    """Paths; "": the system's authorities, and no certificate. Raises Unusable."""
    context = ssl.create_default_context()
    if ca:
        context = _with(ca, lambda: ssl.create_default_context(cafile=ca))
    if chain:
        # OpenSSL asks on the terminal where a key has a password, and none is given.
        _with(key or chain, lambda: context.load_cert_chain(chain, key or None, password=lambda: ""))
    return context


def password(path: str) -> str:
    """The one line of the file; "" where there is no path. Raises Unusable."""
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST + 1)
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from None
    word = text.removesuffix("\n")
    if not word or len(text) > MOST or "\n" in word:
        raise Unusable(f"{path}: wanted one line with a password")
    return word


def _with(path: str, read: Callable[[], Made]) -> Made:
    try:
        return read()
    except ssl.SSLError as error:
        raise Unusable(f"{path}: this is no PEM that OpenSSL can use: {error.reason or error}") from None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from None
