"""Which route a client takes by the name that it asks for and the protocols that it offers (its ClientHello). Pure.

The most exact name wins: the name itself, then "*.name" of the nearest parent, then routes without a name. Of equals one
that asks for a protocol wins if the client offers it, else one that asks for none; where none of them fits, the next less
exact name is looked for. So a route without names is for all others, for clients that name none, and for those without TLS.
"""

from collections.abc import Collection, Iterator, Sequence


class SniRoutes:
    """`rules` are pairs (names, protocols); `find` gives the number of one."""

    def __init__(self, rules: Sequence[tuple[Collection[str], Collection[str]]]) -> None:
        self._by_name: dict[str, list[tuple[Collection[str], int]]] = {}
        ranked = sorted(enumerate(rules), key=lambda rule: not rule[1][1])  # those that ask for a protocol first
        for number, (names, protocols) in ranked:
            for name in names or ("",):
                self._by_name.setdefault(name.lower().removesuffix("."), []).append((protocols, number))

    def __repr__(self) -> str:
        return f"<SniRoutes by {len(self._by_name)} names>"

    def find(self, name: str, offered: Collection[str]) -> int:
        """-1 when no rule fits."""
        for key in _keys(name.lower().removesuffix(".")):
            for protocols, number in self._by_name.get(key, ()):
                if not protocols or not set(protocols).isdisjoint(offered):
                    return number
        return -1


def _keys(name: str) -> Iterator[str]:
    if name:
        yield name
    rest = name
    while rest := rest.partition(".")[2]:
        yield f"*.{rest}"
    yield ""
