"""`balance` and `hash-type` of a haproxy.cfg: the policy here, and what is said of what is different."""

import pytest

from tcp_proxy.config.haproxy.document import convert


def imported(*lines, mode="http"):
    text = f"defaults\n mode {mode}\nlisten a\n bind 127.0.0.1:80\n" + "".join(f" {line}\n" for line in lines)
    document, notes = convert(text + " server one 192.0.2.1:80\n server two 192.0.2.2:80\n")
    app = document["apps"][0]
    return app["balance"], app.get("hash"), [note for note in notes if "timeout" not in note]


@pytest.mark.parametrize(
    ("lines", "policy", "key"),
    [
        (["balance source"], "source_hash", None),
        (["balance source", "hash-type consistent"], "ring_hash", None),
        (["hash-type consistent sdbm avalanche", "balance source"], "ring_hash", None),
        (["balance roundrobin", "hash-type consistent"], "round_robin", None),
        (["balance uri"], "rendezvous", {"key": "path"}),
        (["balance uri", "hash-type consistent"], "ring_hash", {"key": "path"}),
        (["balance hdr(X-User)", "hash-type consistent"], "ring_hash", {"key": "header", "name": "X-User"}),
        (["balance source", "hash-type consistent", "hash-balance-factor 150"], "ring_hash", {"balance_factor": 150}),
        (["hash-balance-factor 0", "balance source", "hash-type consistent"], "ring_hash", None),
        (["balance uri", "hash-type consistent", "hash-balance-factor 125"], "ring_hash",
         {"key": "path", "balance_factor": 125}),
        (["balance roundrobin", "hash-type consistent", "hash-balance-factor 150"], "round_robin", None),
        (["balance hdr(host)"], "rendezvous", {"key": "header", "name": "host"}),
        (["balance random(2)"], "random_two", None),
        ([], "round_robin", None),
    ],
)  # fmt: skip
def test_a_policy(lines, policy, key):
    assert imported(*lines)[:2] == (policy, key)


def test_what_is_different_is_said():
    assert imported("balance hdr(X-User)")[2] == [
        "line 5: balance hdr(X-User): a request without this header goes by its client's address here, there in turns"
    ]
    assert imported("balance uri whole")[2] == ["line 5: balance uri whole: whole: the path counts; left out"]
    assert imported("balance uri", mode="tcp")[2][0].endswith("this policy has no counterpart; round_robin is taken")
    assert imported("balance roundrobin", "hash-type consistent", "hash-balance-factor 150")[2] == [
        "line 7: hash-balance-factor 150: roundrobin hashes nothing; left out"
    ]
    assert imported("balance source", "hash-type consistent", "hash-balance-factor \u00b2")[1] is None
    assert imported("balance source", "hash-balance-factor 150")[1:] == (
        None, ["line 6: hash-balance-factor 150: it is for hash-type consistent; left out"],
    )  # fmt: skip
