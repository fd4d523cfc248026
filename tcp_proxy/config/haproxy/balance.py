"""`balance`, `hash-type` and `hash-balance-factor` of a haproxy.cfg become a policy of ours, and what it hashes. Pure.

HAProxy's configuration manual, 4.2. With `hash-type consistent` it is the ring; with its default, map-based, a server that
goes moves nearly all clients there, and here its own alone, which nobody minds.
"""

import re
from typing import Any

from tcp_proxy.config.haproxy.proxy import Note, Proxy

Plain = dict[str, Any]

POLICIES = {
    "roundrobin": "round_robin", "static-rr": "round_robin", "leastconn": "least_connections", "source": "source_hash",
    "random": "random_two",
}  # fmt: skip
HDR = re.compile(r"hdr\(([^(),]+)\)")


def policy(backend: Proxy, note: Note) -> Plain | None:
    """`balance`, and `hash` if need be; None: there is no counterpart."""
    line, is_ring = backend.balance, backend.hash_type is not None and "consistent" in backend.hash_type.words
    factor = _factor(backend, is_ring, note)
    words = line.words[1:] if line is not None else ("roundrobin",)
    name = words[0].partition("(")[0]
    if name in POLICIES:
        found = POLICIES[name]
        if is_ring and found == "source_hash":
            return {"balance": "ring_hash", **({"hash": factor} if factor else {})}
        if factor and backend.hash_balance_factor is not None:
            note(backend.hash_balance_factor, f"{words[0]} hashes nothing; left out")
        return {"balance": found}
    header = HDR.fullmatch(words[0])
    if backend.mode != "http" or not (header or name == "uri"):
        return None
    assert line is not None
    if header is not None:
        note(line, "a request without this header goes by its client's address here, there in turns")
    if len(words) > 1:
        note(line, f"{' '.join(words[1:])}: {'the whole name of the host' if header else 'the path'} counts; left out")
    key = {"key": "header", "name": header[1]} if header else {"key": "path"}
    return {"balance": "ring_hash" if is_ring else "rendezvous", "hash": key | factor}


def _factor(backend: Proxy, is_ring: bool, note: Note) -> Plain:
    """`hash-balance-factor`: HAProxy has it for its ring alone."""
    line = backend.hash_balance_factor
    if line is None or line.words[1] == "0":
        return {}
    if is_ring and line.words[1].isascii() and line.words[1].isdecimal():
        return {"balance_factor": int(line.words[1])}
    note(line, "it is for hash-type consistent; left out")
    return {}
