"""Headers of the PROXY protocol, right and wrong, and what is to be made of each.

Headers are from 192.0.2.7:1111 to 192.0.2.8:2222, and from 2001:db8::7 to ::8. A header that is cut is written in parts.
"""

from tcp_proxy.sansio.proxyproto import NOOP, tlv

CLIENT, SERVER = ("192.0.2.7", 1111), ("192.0.2.8", 2222)
CLIENT6, SERVER6 = ("2001:db8::7", 1111), ("2001:db8::8", 2222)
PEER, REFUSED = "peer", "refused"  # accepted, with the connection's own address; not accepted

VECTORS = {
    "v1-tcp4": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"], CLIENT),
    "v1-tcp6": ([b"PROXY TCP6 2001:db8::7 2001:db8::8 1111 2222\r\n"], CLIENT6),
    "v1-tcp6-upper-full": (
        [b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 2001:0DB8:0000:0000:0000:0000:0000:0008 65535 65535\r\n"],
        ("2001:db8::7", 65535),
    ),
    "v1-unknown": ([b"PROXY UNKNOWN\r\n"], PEER),
    "v1-unknown-addresses": ([b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1111 2222\r\n"], PEER),
    "v1-unknown-107": (
        [b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"],
        PEER,
    ),
    "v1-unknown-108": (
        [b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 \r\n"],
        REFUSED,
    ),
    "v1-unknown-junk": ([b"PROXY UNKNOWN what ever\r\n"], PEER),
    "v1-mapped": ([b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.8 1111 2222\r\n"], CLIENT),
    "v1-port0": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 0 0\r\n"], ("192.0.2.7", 0)),
    "v1-port-zeros": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 01111 02222\r\n"], REFUSED),
    "v1-addr-zeros": ([b"PROXY TCP4 192.000.002.007 192.000.002.008 1111 2222\r\n"], REFUSED),
    "v1-port-65536": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 2222\r\n"], REFUSED),
    "v1-tcp4-with-v6": ([b"PROXY TCP4 2001:db8::7 2001:db8::8 1111 2222\r\n"], REFUSED),
    "v1-tcp6-with-v4": ([b"PROXY TCP6 192.0.2.7 192.0.2.8 1111 2222\r\n"], REFUSED),
    "v1-lf-only": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\n"], REFUSED),
    "v1-two-spaces": ([b"PROXY TCP4  192.0.2.7 192.0.2.8 1111 2222\r\n"], REFUSED),
    "v1-trailing-space": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222 \r\n"], REFUSED),
    "v1-lower-case": ([b"proxy tcp4 192.0.2.7 192.0.2.8 1111 2222\r\n"], REFUSED),
    "v1-split-5": ([b"PROXY", b" TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"], CLIENT),
    "v1-split-20": ([b"PROXY TCP4 192.0.2.7", b" 192.0.2.8 1111 2222\r\n"], CLIENT),
    "v1-split-before-lf": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r", b"\n"], CLIENT),
    "v1-twice": ([b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\nPROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"], CLIENT),
    "v1-then-v2": (
        [
            bytes.fromhex(
                "50524f58592054435034203139322e302e322e37203139322e302e322e38203131313120323232320d0a0d0a0d0a000d0a515549540a2111000cc0000207c0000208045708ae"
            )
        ],
        CLIENT,
    ),
    "v2-then-v1": (
        [
            bytes.fromhex(
                "0d0a0d0a000d0a515549540a2111000cc0000207c0000208045708ae50524f58592054435034203139322e302e322e37203139322e302e322e38203131313120323232320d0a"
            )
        ],
        CLIENT,
    ),
    "v2-tcp4": ([bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000207c0000208045708ae")], CLIENT),
    "v2-tcp6": (
        [
            bytes.fromhex(
                "0d0a0d0a000d0a515549540a2121002420010db800000000000000000000000720010db8000000000000000000000008045708ae"
            )
        ],
        CLIENT6,
    ),
    "v2-mapped": (
        [
            bytes.fromhex(
                "0d0a0d0a000d0a515549540a2121002400000000000000000000ffffc000020700000000000000000000ffffc0000208045708ae"
            )
        ],
        CLIENT,
    ),
    "v2-udp4": ([bytes.fromhex("0d0a0d0a000d0a515549540a2112000cc0000207c0000208045708ae")], PEER),
    "v2-unix": (
        [
            bytes.fromhex("0d0a0d0a000d0a515549540a213100d8")
            + b"/run/a.sock".ljust(108, b"\0")
            + b"/run/b.sock".ljust(108, b"\0")
        ],
        PEER,
    ),
    "v2-unspec-0": ([bytes.fromhex("0d0a0d0a000d0a515549540a21000000")], PEER),
    "v2-unspec-12": ([bytes.fromhex("0d0a0d0a000d0a515549540a2100000cc0000207c0000208045708ae")], PEER),
    "v2-inet-unspec": ([bytes.fromhex("0d0a0d0a000d0a515549540a2110000cc0000207c0000208045708ae")], PEER),
    "v2-local-0": ([bytes.fromhex("0d0a0d0a000d0a515549540a20000000")], PEER),
    "v2-local-tcp4-addresses": ([bytes.fromhex("0d0a0d0a000d0a515549540a2011000cc0000207c0000208045708ae")], PEER),
    "v2-local-tcp4-len0": ([bytes.fromhex("0d0a0d0a000d0a515549540a20110000")], PEER),
    "v2-local-unspec-tlv": ([bytes.fromhex("0d0a0d0a000d0a515549540a20000006040003616263")], PEER),
    "v2-short-addresses": ([bytes.fromhex("0d0a0d0a000d0a515549540a21110008c0000207c0000208")], REFUSED),
    "v2-version-1": ([bytes.fromhex("0d0a0d0a000d0a515549540a1111000cc0000207c0000208045708ae")], REFUSED),
    "v2-version-3": ([bytes.fromhex("0d0a0d0a000d0a515549540a3111000cc0000207c0000208045708ae")], REFUSED),
    "v2-command-2": ([bytes.fromhex("0d0a0d0a000d0a515549540a2211000cc0000207c0000208045708ae")], REFUSED),
    "v2-family-4": ([bytes.fromhex("0d0a0d0a000d0a515549540a2141000cc0000207c0000208045708ae")], REFUSED),
    "v2-transport-3": ([bytes.fromhex("0d0a0d0a000d0a515549540a2113000cc0000207c0000208045708ae")], REFUSED),
    "v2-noop-tlv": (
        [bytes.fromhex("0d0a0d0a000d0a515549540a2111001bc0000207c0000208045708ae040000040009787878787878787878")],
        CLIENT,
    ),
    "v2-unknown-tlv": (
        [bytes.fromhex("0d0a0d0a000d0a515549540a2111001ac0000207c0000208045708aeea0006767063652d315500027a7a")],
        CLIENT,
    ),
    "v2-authority-tlv": (
        [bytes.fromhex("0d0a0d0a000d0a515549540a2111001fc0000207c0000208045708ae020009612e6578616d706c6505000469642d31")],
        CLIENT,
    ),
    "v2-length-beyond-1": ([bytes.fromhex("0d0a0d0a000d0a515549540a2111000dc0000207c0000208045708ae00")], REFUSED),
    "v2-tlv-overrun": ([bytes.fromhex("0d0a0d0a000d0a515549540a21110012c0000207c0000208045708ae040009616263")], REFUSED),
    "v2-crc-right": ([bytes.fromhex("0d0a0d0a000d0a515549540a21110013c0000207c0000208045708ae03000430526f43")], CLIENT),
    "v2-crc-wrong": ([bytes.fromhex("0d0a0d0a000d0a515549540a21110013c0000207c0000208045708ae03000430526f42")], REFUSED),
    "v2-crc-short": ([bytes.fromhex("0d0a0d0a000d0a515549540a21110011c0000207c0000208045708ae0300020000")], REFUSED),
    "v2-split-1": ([b"\r", bytes.fromhex("0a0d0a000d0a515549540a2111000cc0000207c0000208045708ae")], CLIENT),
    "v2-split-12": ([bytes.fromhex("0d0a0d0a000d0a515549540a"), bytes.fromhex("2111000cc0000207c0000208045708ae")], CLIENT),
    "v2-split-16": ([bytes.fromhex("0d0a0d0a000d0a515549540a2111000c"), bytes.fromhex("c0000207c0000208045708ae")], CLIENT),
    "v2-split-20": ([bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000207"), bytes.fromhex("c0000208045708ae")], CLIENT),
}


def padded(size):
    """A header of so many bytes, most of them of no meaning."""
    head, ends = bytes.fromhex("0d0a0d0a000d0a515549540a2111"), bytes.fromhex("c0000207c0000208045708ae")
    return head + (size - 16).to_bytes(2, "big") + ends + tlv(NOOP, bytes(size - 31))
