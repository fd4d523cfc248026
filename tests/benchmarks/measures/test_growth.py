"""Every figure of 1,000 and 20,000 targets is found, here of a few."""

import pytest

from benchmarks.lab import Lab
from benchmarks.measures.growth import KINDS, measure
from benchmarks.programs import PACKAGES, stream_module
from benchmarks.proxies import HAPROXY_ONE, PROJECT
from kit.programs import need


@pytest.mark.parametrize("contender", [PROJECT, HAPROXY_ONE], ids=lambda c: c.name)
def test_all_figures_of_a_few_apps(contender, monkeypatch):
    """Each start and each reload lead to the target that is wanted, or it would not end."""
    for name in PACKAGES:
        need(name)
    if stream_module() is None:
        pytest.skip("nginx has no stream module")
    monkeypatch.setattr("benchmarks.measures.growth.TARGETS", (20, 40))
    with Lab() as lab:
        sample = measure(lab, contender, 1)
        assert lab.self_reports == []
    assert sample.keys() == {f"{key}@{size}" for key in KINDS for size in (20, 40)} | {f"growth {key}" for key in KINDS}
    assert min(sample.values()) > 0
