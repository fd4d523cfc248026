"""Whether three proxies are one whatever fails: real faults in networks of their own, and clients that note what they see.

    python -m benchmarks.cluster_proof [--rounds 1] [--only WORDS …] [--seed N] [--keys 1000] [--lease 2]      (as root)

Three members of etcd, three proxies and three targets (cluster_lab), clients at each node (cluster_clients), and in each
round every fault once (cluster_faults), in an order of the dice, whose seed is printed. At the end

- what clients were greeted by is the history of one primary at a time, changed when triggers ran (history);
- each election had an epoch of its own, above those before it, and its trigger ran once;
- of each key, it is the history of one target, that moves only while a node cannot reach it (history);
- no client of a target of its own has failed, but at nodes that were killed, ended, or cut off from all targets;
- no log tells of an error of the program's own.

Status 1: something was found, and said.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import sys
import tempfile

from benchmarks.cluster_clients import Clients
from benchmarks.cluster_faults import FAULTS, Scene, end
from benchmarks.cluster_lab import NODES, Lab
from benchmarks.history import key_fault, primary_fault
from benchmarks.lab import raise_descriptor_limit
from benchmarks.programs import Failed
from benchmarks.waiting import now

NEW = 12  # keys, before each fault
BAD_WORDS = ("Traceback", "internal error", "Exception ignored", "CRITICAL")


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether three proxies are one whatever fails.")
    parser.add_argument("--rounds", type=int, default=1, help="of all faults")
    parser.add_argument("--only", nargs="*", default=[], help="faults whose names have one of these words in them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the dice")
    parser.add_argument("--keys", type=int, default=1000, help="clients that are known by their address, at the beginning")
    parser.add_argument("--lease", type=int, default=2, help="seconds")
    parser.add_argument("--keep", help="the folder in which logs and files stay")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("networks of one's own are for root only")
    names = [name for name in FAULTS if not args.only or any(word in name for word in args.only)]
    if not names:
        parser.error(f"no fault has one of these words in its name: {', '.join(FAULTS)}")
    raise_descriptor_limit()
    for number in (signal.SIGTERM, signal.SIGINT):  # all that was started is ended, also where a shell has SIGINT ignored
        signal.signal(number, lambda *_: sys.exit(1))
    say(f"seed {args.seed}")
    with contextlib.ExitStack() as stack:
        folder = args.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="tcp-proxy-cluster-"))
        problems = _prove(pathlib.Path(folder), names, args)
    for problem in problems:
        say(f"WRONG: {problem}")
    say("they were not one" if problems else "they were one")
    return 1 if problems else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _prove(folder: pathlib.Path, names: list[str], args: argparse.Namespace) -> list[str]:
    folder.mkdir(exist_ok=True)
    dice, problems = random.Random(args.seed), []
    with contextlib.ExitStack() as stack:
        lab = Lab(stack, folder, args.lease)
        lab.until_whole()
        clients = stack.enter_context(Clients(lab, args.keys))
        scene = Scene(lab, clients, dice)
        try:
            for number in range(args.rounds):
                for name in dice.sample(names, len(names)):
                    _one(scene, name, number + 1)
        except (Failed, TimeoutError, OSError) as error:
            problems.append(f"{error!r}")
        clients.__exit__()
        problems += judge(clients, lab)
        say(_told(clients, lab))
    return problems


def _one(scene: Scene, name: str, number: int) -> None:
    lab, clients = scene.lab, scene.clients
    before = _joined(lab)
    keys = clients.add(NEW)
    clients.until_known()
    are_joined = all(state == "joined" for state, _ in before)
    if not are_joined or _joined(lab) != before:  # what a new key gets from a node that is cut off may be another target
        lab.until_whole()
        clients.forget(keys)
        clients.more(1)
    start = now()
    scene.look()
    try:
        FAULTS[name](scene)
        end(scene)
    except (Failed, TimeoutError) as error:
        raise Failed(f"{name}: {error}") from error
    problems = judge(clients, lab)
    say(f"round {number}: {name}: {now() - start:.1f} s, load {os.getloadavg()[0]:.1f}")
    while scene.notes:
        say(f"    {scene.notes.pop(0)}")
    if problems:
        raise Failed(f"{name}: found then")


def _joined(lab: Lab) -> list[tuple[str, int]]:
    """Of each node: whether it is, and how often it was cut off."""
    return [(lab.state(node), lab.ask(node, "statistics")["cluster"]["cut_off"]) for node in NODES]


def judge(clients: Clients, lab: Lab) -> list[str]:
    problems = []
    primaries = list(clients.primaries)  # before the elections are read
    elections = lab.elections()
    epochs = [one.epoch for one in elections]
    if epochs != sorted(set(epochs)):
        problems.append(f"triggers ran not once an election, in their order: epochs {epochs}")
    elif found := primary_fault(primaries, elections):
        problems.append(f"no order of one primary at a time explains more: {found}")
    for key, sessions in tuple(clients.sessions.items()):
        if found := key_fault(list(sessions), list(clients.moves)):
            problems.append(f"no order of one target at a time explains more of key {key}: {found}")
    for one in tuple(clients.failures):
        if not any(excuse.explains(one) for excuse in tuple(clients.excuses)):
            problems.append(f"a client has failed: {one}")
    for node in NODES:
        text = (lab.running[node].log if node in lab.running else pathlib.Path(os.devnull)).read_text(errors="replace")
        bad = [line for line in text.splitlines() if any(word in line for word in BAD_WORDS)]
        problems += [f"node {node} says: {line}" for line in bad[:3]]
    return problems[:20]


def _told(clients: Clients, lab: Lab) -> str:
    own, failed = sum(map(len, clients.sessions.values())), len(clients.failures)
    return (
        f"{len(clients.primaries)} sessions with a primary, of {len(lab.elections())} elections, {clients.refused} without; "
        f"{own} sessions of {len(clients.keys)} keys, {failed} more have failed"
    )


if __name__ == "__main__":
    sys.exit(main())
