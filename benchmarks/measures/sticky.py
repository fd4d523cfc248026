"""What a new key of a stick table costs: clients of new addresses beside the same ones that come again.

Once alone, and once while one client asks the management API (of HAProxy: its page of statistics) without pause. The
difference of the two medians is what the look-up adds.
"""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.proxies import HAPROXY_ONE, PROJECT, Contender
from benchmarks.sticky_proxies import ASKED

BOUND = 200.0  # microseconds
NOISE = 5.0  # microseconds: a difference that is smaller is none, and nothing is divided by it
FAR = 1 << 20  # addresses between the first ones of the two parts


def measure(lab: Lab, contender: Contender, seconds: int) -> Sample:
    with lab.fresh(contender, "sticky") as proxy:  # one that has met nobody yet
        alone = loads.strangers(proxy.port["greet"], seconds, 0)
        with loads.wrk_beside(proxy.port["api"], ASKED[contender.kind], seconds):
            beside = loads.strangers(proxy.port["greet"], seconds, FAR)
    return {
        "new": alone[0],
        "known": alone[1],
        "more": difference(*alone),
        "newbeside": beside[0],
        "knownbeside": beside[1],
        "morebeside": difference(*beside),
    }


def difference(new: float, known: float) -> float:
    return new - known if new - known > NOISE else 0.0


STICKY = Measure(
    name="sticky",
    title="new keys of a stick table",
    figures=(
        Figure("new", "p50, a new key", "us", "less"),
        Figure("known", "p50, a known key", "us", "less"),
        Figure("more", "what a new key costs", "us", "less", limit=BOUND),
        Figure("newbeside", "p50, a new key, API polled", "us", "less"),
        Figure("knownbeside", "p50, a known key, API polled", "us", "less"),
        Figure("morebeside", "what a new key costs, API polled", "us", "less", limit=BOUND),
    ),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE),
    cost=2.0,
    extra=3.0,
)
