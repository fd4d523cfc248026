"""What a take-over costs a session in time is measured by one command, and it ends with all that it has started."""

import re
import subprocess
import sys

from kit.proxy import ROOT


def test_every_figure_is_found():
    words = ["--sessions", "20", "--idle", "30", "--rounds", "1", "--every", "50"]
    command = [sys.executable, "-m", "benchmarks.upgrade_pause", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    figures = r"p99 \d+ \(p50 \d+, at most \d+\) ms"
    first, second = done.stdout.splitlines()
    assert re.fullmatch(f"late by {figures}, without a take-over {figures}", first)
    assert re.fullmatch(r"    50 sessions have moved in \d+\.\d\d s, load \d+\.\d", second)
