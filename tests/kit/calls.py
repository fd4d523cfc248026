"""Work is counted, never timed: calls of functions, Python's and C's, that a thread makes.

Whatever the machine is and whatever else it does, the same work is the same number, to a few calls. What takes long in one
single call of C is not seen: of such there is only JSON here, so its length is bounded beside it.
"""

import cProfile


class Calls:
    """Of the thread that enters it, while it is in."""

    def __init__(self):
        self._profile = cProfile.Profile()
        self.most = 0  # in one time of being in

    def __enter__(self):
        self._profile.enable()

    def __exit__(self, *_):
        self._profile.disable()
        self.most = max(self.most, sum(entry.callcount for entry in self._profile.getstats()))
        self._profile.clear()
