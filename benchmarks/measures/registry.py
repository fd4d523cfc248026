"""All measures, in the order in which they run and are shown. A new one is a file and a line here."""

from benchmarks.measures import (
    bulk,
    fairness,
    growth,
    http,
    idle,
    memory,
    requests,
    roundtrip,
    scaling,
    start,
    sticky,
    syscalls,
    tls,
)
from benchmarks.measures.base import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        requests.FRESH,
        requests.KEPT,
        bulk.BULK,
        http.REQUESTS,
        http.BODIES,
        roundtrip.ROUND_TRIP,
        memory.MEMORY,
        start.START,
        growth.GROWTH,
        idle.IDLE,
        syscalls.SYSCALLS,
        fairness.FAIRNESS,
        sticky.STICKY,
        scaling.MANY_STREAMS,
        scaling.MANY_FRESH,
        scaling.MANY_KEPT,
        scaling.MESSAGES,
        *tls.ALL,
    )
}
