"""The stick tables as a worker's wire sees them: a table in the test's own loop, which can be made to hold its answers."""

from tcp_proxy.sansio.stick_table import StickTable
from tcp_proxy.wire.stick_table import ASK, ASK_BY_HASH, BY_HASH, CLOSED, OPENED, Wire, pair


class Authority:
    """Answers for one app and holder 0; `others` is who else asks, holder 1."""

    def __init__(self, loop, app="web", size=1000, expires=100.0):
        self.loop, self.app = loop, app
        self.table = StickTable(size, expires)
        self.heard = []
        self.holds = False
        self.is_cut_off = False  # as in a node of a cluster that is
        self._answered = set()
        ours, self.theirs = pair()
        self.wire = Wire(loop, ours, self.hear, lambda: None)

    def hear(self, items):
        for item in items:
            self.heard.append(item)
            if item[0] == ASK and self.is_cut_off:
                self.wire.send([(item[1], "", BY_HASH)])
            elif item[0] == ASK_BY_HASH or (item[0] == ASK and not self.holds):
                self.answer(item)
            elif item[0] == OPENED:
                self.table.opened(item[2], item[3], 0, self.loop.now)
            elif item[0] == CLOSED:
                self.table.closed(item[2], 0, self.loop.now)
        self.tell()

    def answer(self, item):
        _, number, _, key, proposal, seen = item
        self._answered.add(number)
        entry = self.table.claim(key, proposal, seen, 0, self.loop.now)
        self.wire.send([(number, entry.target, entry.version) if entry else (number, "", 0)])

    def let_go(self):
        self.holds = False
        for item in self.heard:
            if item[0] == ASK and item[1] not in self._answered:
                self.answer(item)
        self.tell()

    def tell(self):
        items = [(self.app, news.key, news.target, news.version) for news in self.table.news if news.holders & 1]
        self.table.news.clear()
        if items:
            self.wire.send(items)

    def asked(self):
        return [item[3:] for item in self.heard if item[0] == ASK]

    def close(self):
        self.wire.close()
