"""Whether a head shows a login that belongs to the connection. Pure.

With NTLM and Negotiate (RFC 4559) the connection is logged in, and what comes on it later needs no credentials. So such a
connection is one client's alone. Most schemes (Basic, Digest, Bearer) prove each request by itself and are not meant.

A quoted string that looks like a challenge counts as one: a connection that need not be private costs a little, one that
should be and is not costs a login.
"""

import re
from collections.abc import Mapping
from typing import Final

# Kerberos and Nego2 are what older and newer Windows call the same. A challenge is a scheme alone or before its data.
SCHEME: Final = re.compile(rb"(?:\A|[, \t])(?:NTLM|Negotiate|Nego2|Kerberos)(?=[, \t]|\Z)", re.IGNORECASE)
# The last leg of a Negotiate comes with the answer's 200, so the status is not asked.
FIELDS: Final = frozenset({b"www-authenticate", b"proxy-authenticate", b"authorization", b"proxy-authorization"})


def has_login(values: Mapping[bytes, list[bytes]]) -> bool:
    """`values` of the fields of a head, by lower-case name."""
    return any(SCHEME.search(value) for name in FIELDS if name in values for value in values[name])
