"""The names that the running proxy knows, and none where it does not answer. In real shells: tests/packaging."""

from argparse import Namespace

import pytest

from tcp_proxy.ctl import completion
from tcp_proxy.ctl.main import make_parser


def args(api, app="app", token_file=""):
    return Namespace(api=api, token_file=token_file, app=app)


def test_apps_and_targets_of_one(still):
    api = still.config["api"]["listen"]
    assert completion.apps("", args(api)) == ["app"]
    assert completion.apps("x", args(api)) == []
    assert completion.targets("t", args(api)) == ["two"]
    assert completion.targets("", args(api, app="nobody")) == []


@pytest.mark.parametrize("api", ["nonsense", "https://x", "127.0.0.1:1"])
def test_nobody_who_answers_is_no_error(api):
    assert completion.apps("", args(api)) == []
    assert completion.targets("", args(api, token_file="/no/such")) == []


def test_every_command_that_wants_an_app_or_a_target_offers_them():
    commands = next(action for action in make_parser({})._actions if action.dest == "command").choices
    actions = [(name, action) for name, parser in commands.items() for action in parser._actions]
    found = {(name, action.dest) for name, action in actions if hasattr(action, "completer")}
    wanted = {("drain", "app"), ("drain", "target"), ("status", "app"), ("reset", "target"), ("weight", "target")}
    assert wanted <= found
    assert not any(action.option_strings for _, action in actions if hasattr(action, "completer"))
