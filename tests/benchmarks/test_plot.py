"""A plot comes of any results, whole or with holes."""

import pytest

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from benchmarks.measures.registry import MEASURES
from benchmarks.plot import draw
from benchmarks.results import Results

ABOUT = {
    "date": "2026-01-01", "commit": "0123456789", "dirty": True, "kernel": "6.1", "cpu": "a CPU", "cpus": 2,
    "versions": {"python": "3", "haproxy": "2", "nginx": "1"},
}  # fmt: skip


def some(measure):
    return {contender.name: {figure.key: 1.5 for figure in measure.figures} for contender in measure.contenders}


@pytest.fixture(scope="module", autouse=True)
def fonts(tmp_path_factory):
    """matplotlib keeps its fonts open: that is nobody's leak."""
    for found in ({name: [some(measure)] for name, measure in MEASURES.items()}, {}):
        draw(list(MEASURES.values()), Results(ABOUT, found), tmp_path_factory.mktemp("fonts") / "plot.svg")


@pytest.mark.parametrize("names", [list(MEASURES), ["fresh"], ["messages"], ["start"]], ids=len)
@pytest.mark.parametrize("whole", [True, False])
def test_draw(names, whole, tmp_path):
    measures = [MEASURES[name] for name in names]
    found = {measure.name: [some(measure), {}] if whole else [] for measure in measures}
    draw(measures, Results(ABOUT, found), tmp_path / "plot.svg")
    assert "commit 012345678 and changes" in (tmp_path / "plot.svg").read_text()
