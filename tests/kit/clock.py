"""A clock that the test turns: `Loop(clock=Clock())`."""


class Clock:
    """Seconds that pass only by `turn`."""

    def __init__(self, now=1000.0):
        self.now = now

    def __repr__(self):
        return f"<Clock {self.now}>"

    def __call__(self):
        return self.now

    def turn(self, seconds):
        assert seconds >= 0, "time does not go back"
        self.now += seconds
