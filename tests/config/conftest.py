"""What the tests of the configuration share: ask for the errors of a text."""

import json

import pytest

from tcp_proxy.config.load import ConfigErrors, load_text


def errors_of(text):
    with pytest.raises(ConfigErrors) as refusal:
        load_text(text if isinstance(text, bytes) else text.encode(), "config.json")
    return refusal.value.errors


@pytest.fixture
def complaints():
    """complaints(text): a list of "line:column path: message", of a configuration that must be refused."""
    return lambda text: [f"{e.line}:{e.column} {e.path}: {e.message}" for e in errors_of(text)]


@pytest.fixture
def app_complaints():
    """app_complaints(app, ...): a list of "path: message" for apps that get what they need and do not say."""

    def complaints(*apps):
        needed = {"ports": [5001], "targets": ["a:1"]}
        whole = [{"name": f"app{i}", **needed, **app} for i, app in enumerate(apps)]
        return [f"{error.path}: {error.message}" for error in errors_of(json.dumps({"apps": whole}))]

    return complaints


@pytest.fixture
def app():
    """app(**keys): the App of a configuration with one app, which gets what it needs and the keys do not say."""
    needed = {"name": "a", "ports": [5001], "targets": ["a:1"]}
    return lambda **keys: load_text(json.dumps({"apps": [{**needed, **keys}]}).encode(), "config.json").apps[0]
