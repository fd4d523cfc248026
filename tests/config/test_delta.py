"""What is different between two lists of apps: applied to the old one it gives the new one, and it names nothing else."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.delta import of_apps, of_target, whole
from tcp_proxy.config.diff import match_targets
from tcp_proxy.config.model import App, Target
from tcp_proxy.sansio.address import Address

targets = st.builds(
    Target, st.sampled_from("abcde"), st.builds(Address, st.sampled_from(("x", "y", "z")), st.just(80)), st.integers(1, 2)
)
lists = st.lists(targets, max_size=5, unique_by=lambda target: target.name).map(tuple)
apps = st.lists(
    st.builds(App, st.sampled_from(("web", "shop")), st.just(()), lists, retries=st.integers(1, 2)),
    max_size=2, unique_by=lambda app: app.name,
)  # fmt: skip


def test_another_source_of_the_app_makes_all_its_targets_others(app):
    one, other = app(targets=["a:1", "b:1"]), app(targets=["a:1", "b:1"], source="192.0.2.1")
    (delta,) = of_apps([one], [other])
    assert delta.pairs == tuple(zip(one.targets, other.targets, strict=True))


def applied(old, delta):
    """As `control.targets` does it: who stays keeps his place, new ones come last."""
    stay = {target.name: target for target in old.targets}
    for was, now in delta.pairs:
        if was is not None and now is None:
            del stay[was.name]
    renamed = {was.name: now for was, now in delta.pairs if was is not None and now is not None}
    found = [renamed.get(name, target) for name, target in stay.items()]
    found += [now for was, now in delta.pairs if was is None]
    if delta.is_reordered:
        assert [target.name for target in found] != [target.name for target in delta.app.targets]
        names = {target.name: target for target in found}
        found = [names[target.name] for target in delta.app.targets]
    return tuple(found)


@given(apps, apps)
def test_a_delta_makes_the_new_of_the_old_and_names_what_differs_alone(old, new):
    before = {app.name: app for app in old}
    deltas = {delta.app.name: delta for delta in of_apps(old, new)}
    for app in new:
        delta, was = deltas.pop(app.name, None), before.get(app.name)
        if was is None:
            assert delta == whole(app)
        elif delta is None:
            assert app == was
        else:
            assert app != was
            assert delta.app is app
            assert all(one != other for one, other in delta.pairs)
            assert set(delta.pairs) == {pair for pair in match_targets(was.targets, app.targets) if pair[0] != pair[1]}
            assert applied(was, delta) == app.targets
    assert deltas == {}


@given(lists, targets, st.booleans())
def test_a_delta_of_one_target(before, target, stays):
    app = App("web", (), before)
    was = next((one for one in before if one.name == target.name), None)
    now = target if stays or was is None else None
    new, delta = of_target(app, was, now)
    assert applied(app, delta) == new.targets
    assert dataclasses.replace(new, targets=()) == dataclasses.replace(app, targets=())
    wanted = [now if one is was else one for one in before] + ([now] if was is None else [])
    assert new.targets == tuple(one for one in wanted if one is not None)
