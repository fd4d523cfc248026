"""The key of a client: its address, cut to a prefix, and for some apps a slice of the first message that it sends; or, in
mode http, what a header says.

Keys are text, as people read and write them: "192.0.2.7", "2001:db8:1:2::/64", "192.0.2.7 48454c4c" (the slice in hex).
A header's value is its own key, unless it is long or more than printable ASCII: then its hash is.
Pure. The address is as the kernel writes it, with an IPv4 one that came through an IPv6 socket already as IPv4.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

BITS = {4: 32, 6: 128}
MOST = 128  # bytes of a header's value that is its own key


class KeyMaker:
    """`start`, `end`: of the slice, in bytes; without a slice both are 0. `is_text`: keys are what a header says."""

    def __init__(
        self, ipv4_prefix: int = 32, ipv6_prefix: int = 128, start: int = 0, end: int = 0, is_text: bool = False
    ) -> None:
        self._is_text = is_text
        self.start = start
        self.end = end
        self._prefixes = {4: ipv4_prefix, 6: ipv6_prefix}
        self._plain_ipv4 = ipv4_prefix == 32
        if is_text:  # it loads OpenSSL, which no other app needs, and no client is to wait for
            from hashlib import blake2b  # noqa: PLC0415

            self._blake2b = blake2b

    def __repr__(self) -> str:
        return f"<KeyMaker {self._prefixes}, bytes {self.start} to {self.end}>"

    @property
    def needs_first_bytes(self) -> bool:
        return self.end > 0

    def of_address(self, ip: str) -> str:
        if self._plain_ipv4 and ":" not in ip:
            return ip
        address = ip_address(ip.partition("%")[0])
        prefix, bits = self._prefixes[address.version], BITS[address.version]
        if prefix == bits:
            return str(address)
        kept = int(address) >> (bits - prefix) << (bits - prefix)
        cut = IPv4Address(kept) if address.version == 4 else IPv6Address(kept)
        return f"{cut}/{prefix}"

    def of_message(self, ip: str, first: bytes) -> str:
        """`first`: what the client has sent, `end` bytes of it or all there is; a shorter message has a shorter slice."""
        return f"{self.of_address(ip)} {first[self.start : self.end].hex()}".rstrip()

    def of_value(self, value: bytes) -> str:
        """Of a header."""
        if len(value) <= MOST and value.isascii() and (text := value.decode()).isprintable():
            return text
        return f"blake2b:{self._blake2b(value, digest_size=16).hexdigest()}"

    def of_text(self, text: str) -> str:
        """A key as a person writes it, as the table writes it. Raises ValueError."""
        if self._is_text:
            return self.of_value(text.strip().encode())
        ip, space, rest = text.strip().partition(" ")
        address, slash, prefix = ip.partition("/")
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        key = self.of_address(str(parsed))
        if slash and prefix != str(self._prefixes[parsed.version]):
            raise ValueError(f"keys of this app have a prefix of {self._prefixes[parsed.version]} bits, not {prefix}")
        if not space:
            return key
        if not self.needs_first_bytes:
            raise ValueError("keys of this app are addresses, without a slice of the first message")
        return f"{key} {bytes.fromhex(rest).hex()}".rstrip()
