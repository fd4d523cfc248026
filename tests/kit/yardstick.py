"""A bound of computing time is a ratio, never seconds: to a piece of known work that the same thread does beside what is
measured. So a slower machine, or a busier one, moves both sides.
"""

import json
import statistics
import time

ITEMS = 10_000
UNIT = 0.021  # seconds that the work takes where the bounds below were set


def work():
    """As a round of the supervisor's loop is: many small objects, attributes, strings and dictionaries."""
    made = [{"name": f"t{n}", "address": f"127.0.{n >> 8}.{n & 255}:80", "weight": n & 15} for n in range(ITEMS)]
    read = json.loads(json.dumps(made))
    heavy = {one["name"]: one for one in read if one["weight"] > 3}
    return sorted(heavy, key=lambda name: heavy[name]["weight"])


def seconds_of_work():
    found = []
    for _ in range(5):
        begun = time.thread_time()
        work()
        found.append(time.thread_time() - begun)
    return statistics.median(found)


def units(seconds):
    """What that time is worth here and now, as it was where UNIT was measured."""
    return seconds * UNIT / seconds_of_work()
