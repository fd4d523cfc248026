"""Our own instruments for tests on real sockets and real processes; each has a test of its own beside it."""
