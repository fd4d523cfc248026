"""What a node says of itself in etcd, as JSON text under nodes/NAME, and what of it another one believes. Pure.

Whatever does not look like this is no node: etcd is written to by whoever may, and by other versions than ours. Unknown keys
are left alone, so that a later version may say more.
"""

import json
from typing import Any

from tcp_proxy.wire.cluster import Member

TEXTS = {"instance": 64, "version": 64, "address": 256, "api": 512}  # most characters
MOST = 16 * 1024  # bytes


def written(member: Member, beat: int) -> bytes:
    """`beat` counts what this instance has said."""
    said = {name: getattr(member, name) for name in TEXTS}
    return json.dumps({**said, "age": round(member.age, 3), "lag": round(member.lag, 6), "beat": beat}).encode()


def read(node: str, value: bytes, heard: float) -> tuple[Member, int] | None:
    """The member and its beat; None for what is none."""
    try:
        said: Any = json.loads(value) if len(value) <= MOST else None
        texts = {name: said[name] for name in TEXTS}
        age, lag, beat = said["age"], said["lag"], said["beat"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not all(type(text) is str and len(text) <= TEXTS[name] and text.isprintable() for name, text in texts.items()):
        return None
    if not all(type(number) in (int, float) and -1 <= number < 1e12 for number in (age, lag)) or type(beat) is not int:
        return None
    return Member(node, **texts, age=float(age), lag=float(lag), heard=heard), beat
