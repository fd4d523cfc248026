"""The figures of a cluster are taken by one command, and it ends with all that it has started."""

import re
import subprocess
import sys

from kit.programs import need
from kit.proxy import ROOT


def test_every_figure_is_found():
    need("etcd")
    few = ["--keys", "250", "--clients", "5", "--passes", "2", "--starts", "1"]
    command = [sys.executable, "-m", "benchmarks.cluster_figures", *few]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    figures = re.sub(r"-?\d+\.\d+", "N", done.stdout.replace("ABOVE", "within")).splitlines()
    names = ("new key", "etcd round trip", "known key", "known key without a cluster")
    assert figures == [
        *(f"{name}: p50 N ms, p90 N ms" for name in names),
        "a known key is N times as fast as without a cluster (at least N; the median of 10 pairs)",
        "a new key takes N ms (at most 2: within) more than a round trip, N ms of it more than a known one",
        *(f"a node that starts is ready after N s, N s of CPU, with {keys} keys" for keys in (0, 250)),
        "250 keys take N s (at most 3: within) and N s of CPU more than none",
        "etcd's gateway alone takes N s for them, when nobody looks at what it says",
    ]
