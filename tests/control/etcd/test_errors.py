"""What the members of 3.4, 3.5 and 3.6 answer when something is wrong, as they answered it. Point 10 of docs/cluster.md."""

import pytest

from tcp_proxy.control.etcd.errors import NoSpace, NotAllowed, Refused, TooLarge, Unavailable, of_answer

TEXT = "etcdserver: "


@pytest.mark.parametrize(
    ("status", "body", "kind", "is_certain"),
    [
        (503, {"error": f"{TEXT}request timed out", "code": 14}, Unavailable, False),
        (504, {"code": 4, "message": "context deadline exceeded"}, Unavailable, False),
        (500, {"error": f"{TEXT}request timed out", "message": f"{TEXT}request timed out", "code": 2}, Unavailable, False),
        (503, {"code": 14, "message": f"{TEXT}no leader"}, Unavailable, True),
        (503, {"error": {"grpc_code": 14, "http_code": 503, "message": f"{TEXT}no leader"}}, Unavailable, True),
        (200, {"error": {"code": 14, "message": f"{TEXT}server stopped"}}, Unavailable, False),
        (429, {"code": 8, "message": f"{TEXT}too many requests"}, Unavailable, True),
        (429, {"error": f"{TEXT}mvcc: database space exceeded", "code": 8}, NoSpace, None),
        (429, {"code": 8, "message": "grpc: received message larger than max (2800049 vs. 2097152)"}, TooLarge, None),
        (400, {"code": 3, "message": f"{TEXT}request is too large"}, TooLarge, None),
        (400, {"code": 3, "message": f"{TEXT}too many operations in txn request"}, TooLarge, None),
        (401, {"code": 16, "message": f"{TEXT}invalid auth token"}, NotAllowed, None),
        (400, {"code": 3, "message": f"{TEXT}user name is empty"}, NotAllowed, None),
        (403, {"code": 7, "message": f"{TEXT}permission denied"}, NotAllowed, None),
        (400, {"code": 3, "message": f"{TEXT}authentication failed, invalid user ID or password"}, NotAllowed, None),
        (412, {"error": f"{TEXT}lease already exists", "code": 9}, Refused, None),
        (400, {"code": 9, "message": f"{TEXT}lease already exists"}, Refused, None),
        (404, None, Refused, None),
        (200, ["what"], Refused, None),
        (400, {"code": "x", "message": None}, Refused, None),
    ],
)
def test_what_an_answer_means(status, body, kind, is_certain):
    error = of_answer("http://a:1", status, body)
    assert type(error) is kind
    assert str(error).startswith("http://a:1")
    assert "\n" not in str(error)
    if is_certain is not None:
        assert error.is_certain is is_certain


def test_a_login_is_wanted_for_a_token_that_is_none_and_for_none():
    for text in ("invalid auth token", "user name is empty"):
        assert of_answer("a", 400, {"code": 3, "message": text}).code == 16
    assert of_answer("a", 403, {"code": 7, "message": "permission denied"}).code == 7
