"""The queue of spans: batches, a bound, and an end that waits for nobody longer than it was told."""

import threading

from kit.waiting import PATIENCE, wait_until
from tcp_proxy.control.trace_exporter.queue import BATCH, MOST, SpanQueue


class Collector:
    """Takes nothing until it is let go."""

    def __init__(self):
        self.batches = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.fault = ""

    def export(self, spans):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.batches.append(list(spans))
        return self.fault


def test_batches_and_what_is_left_at_the_end():
    collector = Collector()
    collector.go.set()
    queue = SpanQueue(collector.export, delay=PATIENCE)
    queue.add(range(BATCH))
    wait_until(lambda: queue.exported == BATCH, "a whole batch goes at once")
    queue.add(range(BATCH, 2 * BATCH + 7))
    queue.close(PATIENCE)
    assert [one for batch in collector.batches for one in batch] == list(range(2 * BATCH + 7))
    assert max(map(len, collector.batches)) == BATCH
    assert (queue.exported, queue.dropped) == (2 * BATCH + 7, 0)


def test_few_go_after_a_moment():
    collector = Collector()
    collector.go.set()
    queue = SpanQueue(collector.export, delay=0.01)
    queue.add([1])
    wait_until(lambda: queue.exported == 1, "it goes")
    queue.close(PATIENCE)


def test_a_collector_that_hangs_holds_up_nobody():
    collector = Collector()
    queue = SpanQueue(collector.export)
    queue.add(range(BATCH))
    assert collector.begun.wait(PATIENCE)
    queue.add(range(MOST + 5))
    assert queue.dropped == 5
    queue.add([1])
    assert queue.dropped == 6
    queue.close(0.0)
    assert (queue.exported, queue.dropped) == (0, MOST + 6)
    collector.go.set()


def test_a_batch_that_is_refused_is_dropped_and_the_collector_named_once(caplog):
    collector = Collector()
    collector.go.set()
    collector.fault = "the collector does not take spans: no"
    queue = SpanQueue(collector.export, delay=PATIENCE)
    for _ in range(2):
        queue.add(range(BATCH))
    wait_until(lambda: queue.dropped == 2 * BATCH, "both are dropped")
    assert queue.failing
    collector.fault = ""
    queue.add(range(BATCH))
    queue.close(PATIENCE)
    assert not queue.failing
    assert caplog.messages == [
        "the collector does not take spans: no; spans are dropped until it takes them again",
        f"the collector takes spans again; {2 * BATCH} were dropped so far",
    ]
