"""Whatever configurations come one after the other, what runs at last is what a start with the last one runs: in the
supervisor, on its ports, and in the workers, as far as they can know it by what they were told."""

import copy
import dataclasses
import json
import random

import pytest

from kit.ports import free_ports
from kit.supervisor import Rig, SilentWorker
from tcp_proxy.config.diff import listeners_of
from tcp_proxy.config.load import ConfigErrors, load_text
from tcp_proxy.control.changes.reload import Stage
from tcp_proxy.control.changes.saved_overrides import saved_beside
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.staged import Staged
from tcp_proxy.wire.messages import Apps, Configure, HandOver, Listen, Snapshot, TargetChanged, Targets, Unlisten

KEYS = (
    {"balance": "maglev"}, {"sticky": {}}, {"limits": {"sessions": 3}}, {"source": "127.0.0.7"}, {"bind": "*"},
    {"mode": "http"},
)  # fmt: skip
OF_TARGETS = (
    {"weight": 2}, {"backup": True}, {"max_connections": 2}, {"disabled": True}, {"source": "127.0.0.9"}, {"priority": 1},
)  # fmt: skip
SLOTS = 20_000


class Told:
    """What a worker makes of what it was told."""

    def __init__(self):
        self.apps, self.listeners, self._staged, self._done = {}, {}, Staged(), 0
        self._rows = [memoryview(bytearray(8 * SLOTS)).cast("q") for _ in range(2)]

    def hear(self, sent):
        for message in sent[self._done :]:
            match message:
                case Targets():
                    self._staged.take_targets(message, [])
                case Apps():
                    self._staged.take_apps(message, [])
                case Snapshot() | Configure():
                    for view, part in self._staged.all_of(message):
                        self._app(view).configure(view, 0.0, part)
                    for name in getattr(message, "removed", ()):
                        del self.apps[name]
                case Listen() | HandOver():
                    self.listeners |= dict(zip(message.ids, message.apps, strict=True))
                case Unlisten():
                    for number in message.ids:
                        del self.listeners[number]
                case TargetChanged() if message.app in self.apps:
                    where = message.endpoints, message.servers
                    self.apps[message.app].change_target(message.target, message.state, *where, message.since)
        self._done = len(sent)

    def _app(self, view):
        if view.name not in self.apps:
            empty = dataclasses.replace(view, targets=())
            self.apps[view.name] = LiveApp(empty, 0, self._rows, self._rows[1], lambda *_: None)
        return self.apps[view.name]


class Files:
    """One after another, each made of the one before."""

    def __init__(self, dice, file):
        self._dice, self._ports, self.last = dice, free_ports(5), file

    def next(self):
        while True:
            file = copy.deepcopy(self.last)
            for _ in range(self._dice.randint(1, 3)):
                if file["apps"]:
                    self._change(file["apps"])
            try:
                load_text(json.dumps(file).encode(), "x")
            except ConfigErrors:
                continue
            self.last = file
            return json.dumps(file).encode()

    def _change(self, apps):
        dice = self._dice
        one, other = dice.choice(apps), dice.choice(apps)
        match dice.randrange(8):
            case 0:
                one["targets"].insert(dice.randint(0, len(one["targets"])), self._target())
            case 1:
                del one["targets"][dice.randint(0, len(one["targets"])) :]
            case 2:
                dice.shuffle(one["targets"])
            case 3 | 4:
                key = dice.choice(("ports", "targets", "name"))
                one[key], other[key] = other[key], one[key]
            case 5:
                apps.append(self._app())
            case 6:
                apps.remove(one)
            case 7:
                apps[apps.index(one)] = {**self._app(), "name": one["name"]}

    def _app(self):
        name, ports = self._dice.choice("abcd"), self._dice.sample(self._ports, self._dice.randint(1, 2))
        targets = [self._target() for _ in range(self._dice.randint(1, 4))]
        return {"name": name, "ports": ports, "targets": targets, "health": [], **self._dice.choice(({}, *KEYS))}

    def _target(self):
        name = self._dice.choice(({}, {"name": self._dice.choice("stuv")}))
        return {"address": f"127.0.5.{self._dice.randint(1, 6)}:80", **name, **self._dice.choice(({}, *OF_TARGETS))}

    def order(self, targets):
        """(operation, arguments) for what an operator says meanwhile."""
        app, target = self._dice.choice(targets)
        admin, weight = self._dice.choice((("drain", None), (None, 7), ("ready", 1)))
        return self._dice.choice((
            ("set_target", {"app": app, "target": target, "admin": admin, "weight": weight}),
            ("remove_target", {"app": app, "target": target}),
            ("add_target", {"app": app, "definition": self._target()}),
            ("reset", {"app": app, "target": ""}),
        ))  # fmt: skip


def is_as_after_a_start(rig, file, told):
    context, overrides = rig.supervisor._context, rig.supervisor.operator.overrides
    fresh = saved_beside(rig.supervisor._store, load_text(file, "x"))
    wanted = {app.name: app for app in fresh.apply().apps}
    assert fresh.said == overrides.said
    assert {app.name: app for app in context.config.apps} == wanted
    assert {item.address: item.app for item in context.listening.values()} == listeners_of(context.config)
    assert not context.closing
    assert context.targets.apps.keys() == wanted.keys()
    for worker in rig.supervisor._worker_pool:
        told.setdefault(worker, Told()).hear(worker.sent)
        assert told[worker].listeners == {item.number: item.app for item in context.listening.values()}
        assert told[worker].apps.keys() == wanted.keys()
        for name, app in told[worker].apps.items():
            known = context.targets.apps[name]
            assert list(app.targets) == list(known.targets) == [target.name for target in wanted[name].targets]
            for view in known.view().targets:
                target = app.targets[view.name]
                assert [getattr(target, key) for key in ("slot", "weight", "backup", "priority", "endpoints")] == [
                    getattr(view, key) for key in ("slot", "weight", "backup", "priority", "endpoints")
                ]
                assert (target.state.value, target.connect is None) == (view.state, view.source is None)


@pytest.mark.parametrize("seed", range(3))
def test_what_runs_is_what_the_last_file_says_and_what_was_said_beside_it(monkeypatch, seed):
    monkeypatch.setattr(SilentWorker, "keeps", True)
    dice, told, rig = random.Random(seed), {}, Rig(monkeypatch, 3, workers=2)
    files = Files(dice, {"workers": 2, "apps": json.loads(rig.text)["apps"]})
    pool, context, reload = rig.supervisor._worker_pool, rig.supervisor._context, rig.supervisor._reload
    try:
        for _ in range(25):
            rig.text, rig.api.statuses, asked = files.next(), [], 1
            rig.api.ask("reload")
            for _ in range(dice.choice((0, 0, 1, 2, 4))):
                rig.turn()
            targets = [(target.app, target.config.name) for target in context.targets]
            if dice.random() < 0.5 and targets:
                operation, arguments = files.order(targets)
                rig.api.ask(operation, **arguments)
                asked = 2
            elif dice.random() < 0.3:
                rig.end(dice.choice(pool.introduced))
            rig.turn_until(lambda asked=asked: len(rig.api.statuses) == asked and reload.stage is Stage.IDLE)
            rig.turn_until(lambda: pool.is_complete and context.slices.is_idle)
            assert rig.api.statuses[-1] != 500
            if rig.supervisor.operator.overrides.file.apps != load_text(rig.text, "x").apps:
                continue  # it contradicted what was said
            is_as_after_a_start(rig, rig.text, told)
    finally:
        rig.close()
