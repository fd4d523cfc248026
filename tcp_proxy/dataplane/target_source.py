"""How a target is connected to where the configuration says from where (runtime.source, loaded with the first such one)."""

from typing import Any

from tcp_proxy.config.target_model import Source


def connect_of(source: Source | None, before: Any) -> Any:
    """A runtime.source.SourceConnect, the one of before if it is the same; None: from where the kernel says."""
    if source is None or (before is not None and before.source == source):
        return before if source is not None else None
    from tcp_proxy.runtime.source import SourceConnect  # noqa: PLC0415  for the first that needs it

    return SourceConnect(source)
