"""Addresses as people write them: "host:port", "[v6]:port", "unix:/path"; listeners; port ranges.

Values in, values out; every function that can refuse raises ValueError with a sentence for the user.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is. Exactly one of (host, port) and path is set."""

    host: str = ""  # a name or an IP literal, without brackets
    port: int = 0
    path: str = ""  # of a UNIX socket

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where an app listens. host is an IP literal, or "*" for one dual-stack socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
