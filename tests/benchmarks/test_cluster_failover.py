"""How long clients are without a primary is measured by one command, and it ends with all that it has started."""

import re
import subprocess
import sys

from kit.programs import need
from kit.proxy import ROOT


def test_every_figure_is_found():
    need("etcd")
    command = [sys.executable, "-m", "benchmarks.cluster_failover", "--rounds", "1", "--deaths", "1", "--lease", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    kinds = ("one proxy", "the node that decides", "another node", "a node's death")
    assert re.sub(r"-?\d+\.\d+", "N", done.stdout.replace("ABOVE", "within")).splitlines() == [
        *(f"{kind}: median N s, at most N s, of 1" for kind in kinds),
        *(f"{kind}: at most N s (at most N: within) more than one proxy's median" for kind in kinds[1:3]),
        "a node's death: at most N s (at most 3: within)",
    ]
