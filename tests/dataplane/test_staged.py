"""What comes in parts before a message is whole when that comes, once."""

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.staged import Staged
from tcp_proxy.wire.messages import AppPart, Apps, Configure, Targets
from tcp_proxy.wire.views import AppView, TargetView


def target(name):
    return TargetView(name, 8, 1, False, False, "up", ())


def app(name, *targets):
    return AppView(name, 8, "round_robin", 3, Timeouts(), tuple(map(target, targets)))


def names(staged, message):
    return [(view.name, [one.name for one in view.targets], part) for view, part in staged.all_of(message)]


def test_whoever_came_before_is_there_once():
    staged = Staged()
    staged.take_targets(Targets("a", (target("a1"), target("a2"))), [])
    staged.take_targets(Targets("a", (target("a3"),)), [])
    staged.take_targets(Targets("c", (target("c1"),)), [])
    staged.take_apps(Apps((app("a"),), (AppPart(app("b", "b1"), (5,)),)), [])
    assert repr(staged) == "<Staged 2 apps, 1 targets>"
    message = Configure(1, 1, 0.0, (app("d", "d1"),), (), (AppPart(app("c", "c2"), (), ("c1", "c2")),))
    found = names(staged, message)
    assert [(name, targets) for name, targets, _ in found] == [
        ("a", ["a1", "a2", "a3"]), ("d", ["d1"]), ("b", ["b1"]), ("c", ["c1", "c2"]),
    ]  # fmt: skip
    assert [part and (part.left, part.order) for *_, part in found] == [None, None, ((5,), ()), ((), ("c1", "c2"))]
    assert all(part is None or [one.name for one in part.view.targets] == targets for _, targets, part in found)
    assert repr(staged) == "<Staged 0 apps, 0 targets>"
    assert names(staged, Configure(2, 1, 0.0, (), ())) == []
