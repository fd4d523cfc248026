"""Which lines go where: the paths that there are, each once."""

from tcp_proxy.config.log_model import AccessLogs


def test_paths():
    assert AccessLogs().paths == ()
    own = (("a", "a.log", "json"), ("b", "", "text"), ("c", "usual", "json"), ("d", "a.log", "text"))
    assert AccessLogs("usual", "text", own).paths == ("usual", "a.log")
    assert AccessLogs("", "text", own).paths == ("a.log", "usual")
