"""A claim is read as it was written, and nothing else is one."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.wire.claims import Claim, read_claim

IDS = st.integers(0, 1 << 22)


@given(IDS, IDS, st.sampled_from(["*:5432", "127.0.0.1:1", "[::1]:65535", "[fe80::1%eth0]:80"]))
def test_it_is_read_as_it_was_written(worker, supervisor, address):
    claim = Claim(worker, supervisor, address)
    assert claim.name[0] == 0
    assert len(claim.name) <= 108
    assert read_claim("@" + claim.name[1:].decode()) == claim


@given(st.text())
def test_other_names_are_none(text):
    assert read_claim(text) is None or text.startswith("@tcp_proxy/primary/")
    assert read_claim(f"@tcp_proxy/{text}") is None or text.startswith("primary/")
    assert read_claim(f"@tcp_proxy/primary/x{text}/1/*:1") is None
