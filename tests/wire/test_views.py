"""What a worker is told of an app."""

from tcp_proxy.wire.views import AccessView


def test_a_big_table_is_not_part_of_what_is_logged():
    view = AccessView((("deny", "10.0.0.0/8"),), (7,), ("f" * 1000, "", "", ""))
    assert repr(view) == "AccessView(rules=(('deny', '10.0.0.0/8'),), slots=(7,))"
