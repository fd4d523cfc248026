"""The whole program: it measures, saves and shows; and it leaves nothing behind, however it ends."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from benchmarks.programs import PACKAGES, stream_module
from kit import procfs
from kit.programs import need
from kit.waiting import wait_until
from tcp_proxy import build

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path):
    """bench(*args): the program, with its temporary files under tmp_path/tmp."""
    for name in PACKAGES:
        need(name)
    if stream_module() is None:
        pytest.skip("nginx has no stream module")
    (tmp_path / "tmp").mkdir()

    def start(*args, **env):
        argv = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--seconds", "1", "--output", tmp_path / "out", *args]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), **env}
        return subprocess.Popen(
            list(map(str, argv)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.mark.slow
@pytest.mark.timeout(180)  # it measures for 18 s when nothing else runs
def test_to_the_end(bench, tmp_path):
    with bench("--only", "start fairness") as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    for words in ("maxconn", "option splice-request", "exec to first byte", "p99 beside", "<= 0.15", f"build: {build()}"):
        assert words in out
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".md", ".svg"}
    [saved] = (tmp_path / "out").glob("*.json")
    measures = json.loads(saved.read_text())["measures"]
    assert measures["fairness"][0]["project"]["rate"] > 0
    assert measures["start"][0]["HAProxy"]["start"] > 0
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(bench, tmp_path, number):
    with bench("--only", "fresh", "--seconds", "60") as process:
        try:
            while process.stderr.readline() != "bench: new connections\n":  # it starts its targets first
                assert process.poll() is None
            wait_until(lambda: any(b"--latency" in line for line in procfs.children(process.pid).values()), "wrk runs")
            started = list(procfs.children(process.pid))
            assert len(started) > 5
        finally:
            process.send_signal(number)
            _, errors = process.communicate()
    assert (process.returncode, errors.splitlines()[-1]) == (130, "bench: interrupted; everything it started is stopped")
    assert not any(map(procfs.is_running, started))
    assert not list((tmp_path / "tmp").iterdir())


def test_a_program_is_missing(bench):
    with bench(PATH="/nowhere") as process:
        _, errors = process.communicate()
    assert process.returncode == 2
    [line] = errors.splitlines()
    assert line.startswith("bench: not installed: wrk")
    assert "apt install wrk" in line


def test_nothing_to_compare_with(bench, tmp_path):
    (tmp_path / "old.json").write_text("{}")
    with bench("--compare", tmp_path / "old.json") as process:
        _, errors = process.communicate()
    assert process.returncode == 2
    [line] = errors.splitlines()
    assert "is not a result of this benchmark" in line
