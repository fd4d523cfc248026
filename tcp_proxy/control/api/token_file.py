"""The token that requests to the management API must bear, in a file that nobody else may read: read at start, and again
whenever it changes.

The supervisor looks whether it can be read before it starts; the API's process holds requests against it. A file that
has gone, or holds nothing good, lets nobody in.
"""

import os
import stat

from tcp_proxy.config.files import read_file

LEAST = 16  # characters
GROUP, OTHERS = 0o070, 0o007  # rights; those of root's group are root's


def read_token(path: str) -> str:
    """Raises ValueError with a sentence for the user."""
    try:
        status, token = os.stat(path), read_file(path, 4096).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not ASCII text"
        raise ValueError(f"token file {path}: {reason}") from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & (OTHERS if status.st_gid == 0 else GROUP | OTHERS):
        raise ValueError(f"token file {path}: its mode {mode:04o} lets others at it; mend it with: chmod 600 {path}")
    if not token:
        raise ValueError(f"token file {path} is empty")
    if len(token) < LEAST or not token.isprintable() or " " in token:
        raise ValueError(f"token file {path}: wanted one word of at least {LEAST} characters, without space")
    return token


class TokenFile:
    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._token = ""
        self.error = ""

    def __repr__(self) -> str:
        return f"<TokenFile {self._path} {self.error or 'good'}>"

    def admits(self, token: str) -> bool:
        """Whether this is the token, found out in a time that says nothing about how much of it is right."""
        self._refresh()
        import hmac  # noqa: PLC0415  it loads OpenSSL, which a start need not wait for

        return not self.error and hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
        except (OSError, ValueError):
            stamp: tuple[int, ...] = ()
        else:
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
        if stamp and stamp == self._stamp and not self.error:
            return
        self._stamp, self.error = stamp, ""
        try:
            self._token = read_token(self._path)
        except ValueError as error:
            self.error = str(error)
