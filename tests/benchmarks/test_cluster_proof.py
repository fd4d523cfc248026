"""Three proxies are one whatever fails: the short form, of two faults (make test-cluster is the long one)."""

import os
import subprocess
import sys

import pytest

from benchmarks.cluster_clients import Excuse, Failure
from kit.programs import need
from kit.proxy import ROOT

FAULTS = ["a node is cut off from etcd", "etcd's leader is cut off from the other members"]


@pytest.mark.alone  # six programs and their clients take all of the machine
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_proxies_are_one_while_nodes_and_members_of_etcd_are_cut_off():
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    for name in ("etcd", "etcdctl", "ip", "nsenter", "unshare"):
        need(name)
    command = [sys.executable, "-m", "benchmarks.cluster_proof", "--seed", "5", "--keys", "30", "--only", *FAULTS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        try:
            said = program.communicate(timeout=360)[0]
        except BaseException:
            program.terminate()  # it ends what it has started
            raise
    lines = said.splitlines()
    assert program.returncode == 0, said
    assert lines[0] == "seed 5"
    assert {line.split(": ")[1] for line in lines if line.startswith("round 1: ")} == set(FAULTS), said
    assert lines[-1] == "they were one"


def test_a_client_that_has_failed_is_excused_by_its_node_its_time_and_how():
    one = Failure(5.0, 6.0, "a", "10.88.1.1", "TimeoutError('timed out')")
    assert Excuse(1.0, 5.5, "a", "").explains(one)
    assert Excuse(5.5, 9.0, "a", "TimeoutError").explains(one)
    assert not Excuse(1.0, 9.0, "b", "").explains(one)
    assert not Excuse(1.0, 9.0, "a", "ConnectionResetError").explains(one)
    assert not Excuse(1.0, 4.9, "a", "").explains(one)
    assert not Excuse(6.1, 9.0, "a", "").explains(one)
