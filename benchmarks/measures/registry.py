"""All measures, in the order in which they run and are shown. A new one is a file and a line here."""

from benchmarks.measures import bulk, requests
from benchmarks.measures.base import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        requests.FRESH,
        requests.KEPT,
        bulk.BULK,
    )
}
