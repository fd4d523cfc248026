"""Real programs through the proxy, and the cases of other proxies' suites, named after their origin."""
