"""The stick table: single rules by hand, and everything together against a model that is a plain dictionary."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tcp_proxy.sansio.stick_table import News, StickTable

ONE, TWO = 0, 1


def table(size=100, expires=10.0):
    return StickTable(size, expires)


def targets(table):
    return {entry.key: entry.target for entry in table}


def test_a_new_key_takes_the_proposal():
    entry = table().claim("k", "a", 0, ONE, 0.0)
    assert (entry.target, entry.version, entry.open, entry.copies) == ("a", 1, 0b1, 0b1)


def test_of_two_that_claim_at_once_the_second_gets_the_target_of_the_first():
    sticks = table()
    assert sticks.claim("k", "a", 0, ONE, 0.0).target == "a"
    assert sticks.claim("k", "b", 0, TWO, 0.0).target == "a"
    assert sticks.news == []


def test_no_proposal_and_no_entry_is_nothing():
    sticks = table()
    assert sticks.claim("k", "", 0, ONE, 0.0) is None
    assert len(sticks) == 0


def test_without_a_proposal_an_entry_is_found():
    sticks = table()
    sticks.claim("k", "a", 0, ONE, 0.0)
    assert sticks.claim("k", "", 0, TWO, 0.0).target == "a"


def test_a_target_that_cannot_be_used_is_rewritten_and_those_who_know_it_hear_of_it():
    sticks = table()
    first = sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.claim("k", "a", 0, TWO, 0.0)
    again = sticks.claim("k", "b", first.version, TWO, 1.0)
    assert (again.target, again.version) == ("b", 2)
    assert sticks.news == [News(1 << ONE, "k", "b", 2)]


def test_who_saw_an_older_version_gets_the_newer_one_instead_of_his_proposal():
    sticks = table()
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.claim("k", "b", 1, ONE, 0.0)
    assert sticks.claim("k", "c", 1, TWO, 0.0).target == "b"


def test_an_entry_expires_after_the_last_close_anywhere():
    sticks = table(expires=10.0)
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.claim("k", "a", 0, TWO, 0.0)
    sticks.closed("k", ONE, 5.0)
    assert sticks.find("k", 1000.0) is not None
    sticks.closed("k", TWO, 1000.0)
    assert sticks.find("k", 1009.9) is not None
    assert sticks.expire(1009.9, 100) == []
    assert sticks.find("k", 1010.0) is None
    assert len(sticks) == 0


def test_expiry_is_in_portions():
    sticks = table(expires=1.0)
    for number in range(5):
        sticks.claim(str(number), "a", 0, ONE, 0.0)
        sticks.closed(str(number), ONE, number / 10)
    assert sticks.expire(1.25, 2) == ["0", "1"]
    assert sticks.expire(1.25, 2) == ["2"]
    assert len(sticks) == 2


def test_an_expired_key_is_a_new_one():
    sticks = table(expires=1.0)
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.closed("k", ONE, 0.0)
    assert sticks.claim("k", "b", 0, TWO, 1.0).target == "b"


def test_at_size_the_key_that_is_idle_longest_goes_first():
    sticks = table(size=3)
    for key in "abc":
        sticks.claim(key, "t", 0, ONE, 0.0)
    sticks.closed("b", ONE, 1.0)
    sticks.closed("a", ONE, 2.0)
    sticks.claim("d", "t", 0, ONE, 3.0)
    assert set(targets(sticks)) == {"a", "c", "d"}
    assert sticks.news == [News(1, "b", "", 4)]
    sticks.claim("e", "t", 0, ONE, 3.0)
    sticks.claim("f", "t", 0, ONE, 3.0)  # nobody is idle any more
    assert set(targets(sticks)) == {"d", "e", "f"}
    assert sticks.evicted == 3


def test_a_dead_worker_releases_its_keys_and_no_others():
    sticks = table(expires=10.0)
    sticks.claim("mine", "a", 0, ONE, 0.0)
    sticks.claim("both", "a", 0, ONE, 0.0)
    sticks.claim("both", "a", 0, TWO, 0.0)
    sticks.released(ONE, 5.0)
    assert sticks.find("mine", 15.0) is None
    assert sticks.find("both", 15.0) is not None
    sticks.closed("both", TWO, 20.0)
    assert sticks.find("both", 30.0) is None


def test_a_copy_that_was_used_as_its_entry_went_is_put_back():
    sticks = table(expires=1.0)
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.closed("k", ONE, 0.0)
    sticks.expire(2.0, 9)
    sticks.opened("k", "a", ONE, 2.0)
    assert sticks.news == [News(1, "k", "a", 2)]
    assert sticks.find("k", 99.0).open == 1


def test_who_has_used_a_copy_that_is_none_any_more_hears_of_it():
    """Its own was too old: the entry expired, and somebody else has brought the key to another target."""
    sticks = table(expires=1.0)
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.closed("k", ONE, 0.0)
    sticks.expire(2.0, 9)
    sticks.claim("k", "b", 0, TWO, 2.0)
    sticks.opened("k", "a", ONE, 2.0)
    assert sticks.news == [News(1 << ONE, "k", "b", 2)]
    assert targets(sticks) == {"k": "b"}


def test_a_copy_of_what_others_have_expires_nowhere_and_tells_of_uses():
    one = table(expires=10.0)
    one.is_copy = True
    one.claim("k", "a", 0, 0, 1.0)
    one.claim("k", "", 0, 1, 1.0)
    one.closed("k", 0, 2.0)
    assert one.uses == [("k", True)]
    one.closed("k", 1, 2.0)
    assert one.uses == [("k", True), ("k", False)]
    assert one.expire(100.0, 10) == []
    assert one.find("k", 100.0).target == "a"
    one.claim("k", "", 0, 0, 100.0)
    one.delete("k")
    assert one.uses[2:] == [("k", True), ("k", False)], "who has it no more does not use it"
    assert one.orders is None
    one.orders = []
    one.set("k", "b", 101.0)
    one.set("k", "b", 101.0)
    one.delete("k")
    one.delete("k")
    assert one.orders == [("k", "b"), ("k", "b"), ("k", "")]


def test_an_operator_sets_deletes_and_clears():
    sticks = table()
    sticks.claim("k", "a", 0, ONE, 0.0)
    assert sticks.set("k", "b", 0.0).version == 2
    assert sticks.set("new", "b", 0.0).open == 0
    assert sticks.delete("k") is True
    assert sticks.delete("k") is False
    assert [(news.key, news.target) for news in sticks.news] == [("k", "b"), ("k", "")]
    assert sticks.delete_all(targets(sticks)) == 1
    assert len(sticks) == 0


def test_a_renamed_target_keeps_its_keys():
    sticks = table()
    sticks.claim("k", "a", 0, ONE, 0.0)
    sticks.rename("a", "b")
    assert sticks.news == [News(1, "k", "b", 1)]
    assert targets(sticks) == {"k": "b"}


def test_a_smaller_table_forgets():
    sticks = table(size=5)
    for key in "abcde":
        sticks.claim(key, "t", 0, ONE, 0.0)
    sticks.resize(2, 10.0)
    assert set(targets(sticks)) == {"d", "e"}


def test_restored_entries_are_idle_and_versions_go_on():
    sticks = StickTable(2, 10.0)
    sticks.restore("a", "t", 7, -3.0)
    sticks.restore("b", "t", 5, -2.0)
    assert sticks.find("a", 7.0) is None
    assert sticks.claim("z", "t", 0, ONE, 7.0).version == 8


def test_of_more_restored_entries_than_there_is_room_for_those_stay_that_were_used_last():
    sticks = StickTable(2, 10.0)
    sticks.notes_changes = True
    for key, since in (("a", -3.0), ("b", -2.0), ("c", -1.0)):
        sticks.restore(key, "t", 1, since)
    assert set(targets(sticks)) == {"b", "c"}
    assert sticks.changed == {"a"}, "the file has it still"


KEYS = st.sampled_from([f"k{number}" for number in range(6)])
TARGETS = st.sampled_from(["a", "b", "c"])
HOLDERS = st.sampled_from([0, 1, 2])
SIZE, EXPIRES = 4, 5


class AgainstModel(RuleBasedStateMachine):
    """The model: key -> [target, holders, since], in a dictionary; the rules written as one would say them."""

    def __init__(self):
        super().__init__()
        self.table = StickTable(SIZE, EXPIRES)
        self.model = {}
        self.now = 0.0
        self.turn = 0  # tells apart what happens in one moment
        self.copies = {}

    def moment(self):
        self.turn += 1
        return self.now, self.turn

    def forget_expired(self):
        for key, (_, holders, since) in list(self.model.items()):
            if not holders and self.now - since[0] >= EXPIRES:
                del self.model[key]

    def make_room(self):
        if len(self.model) >= SIZE:
            del self.model[min(self.model, key=lambda key: (bool(self.model[key][1]), self.model[key][2]))]

    def use(self, key, holder):
        entry = self.model[key]
        if not entry[1]:
            entry[2] = self.moment()
        entry[1].add(holder)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds):
        self.now += seconds
        self.table.expire(self.now, 100)
        self.forget_expired()

    @rule(key=KEYS, wanted=st.one_of(st.just(""), TARGETS), holder=HOLDERS, has_seen=st.booleans())
    def claim(self, key, wanted, holder, has_seen):
        known = self.table.find(key, self.now)
        seen = known.version if known is not None and has_seen else 0
        entry = self.table.claim(key, wanted, seen, holder, self.now)
        if key not in self.model:
            if not wanted:
                assert entry is None
                return
            self.make_room()
            self.model[key] = [wanted, set(), self.moment()]
        elif has_seen and wanted:
            self.model[key][0] = wanted
        self.use(key, holder)
        assert entry.target == self.model[key][0]
        self.copies[holder, key] = entry.target

    @rule(key=KEYS, wanted=TARGETS, holder=HOLDERS)
    def opened(self, key, wanted, holder):
        self.table.opened(key, wanted, holder, self.now)
        self.copies[holder, key] = wanted
        if key not in self.model:
            self.make_room()
            self.model[key] = [wanted, set(), self.moment()]
        self.use(key, holder)

    @rule(key=KEYS, holder=HOLDERS)
    def closed(self, key, holder):
        self.table.closed(key, holder, self.now)
        self.close(key, holder)

    def close(self, key, holder):
        entry = self.model.get(key)
        if entry is not None and holder in entry[1]:
            entry[1].discard(holder)
            if not entry[1]:
                entry[2] = self.moment()

    @rule(holder=HOLDERS)
    def worker_dies(self, holder):
        self.table.released(holder, self.now)
        for key in sorted(self.model, key=lambda key: self.model[key][2]):
            self.close(key, holder)

    @rule(key=KEYS, wanted=TARGETS)
    def set(self, key, wanted):
        self.table.set(key, wanted, self.now)
        if key in self.model:
            self.model[key][0] = wanted
        else:
            self.make_room()
            self.model[key] = [wanted, set(), self.moment()]

    @rule(key=KEYS)
    def delete(self, key):
        assert self.table.delete(key) is (self.model.pop(key, None) is not None)

    @precondition(lambda self: self.model)
    @rule(old=TARGETS, new=TARGETS)
    def rename(self, old, new):
        self.table.rename(old, new)
        for entry in self.model.values():
            entry[0] = new if entry[0] == old else entry[0]

    @invariant()
    def the_table_is_what_the_model_says(self):
        found = {
            entry.key: (entry.target, {holder for holder in range(3) if entry.open >> holder & 1}) for entry in self.table
        }
        assert found == {key: (target, holders) for key, (target, holders, _) in self.model.items()}
        assert len(self.table) == len(self.model) <= SIZE
        assert self.table.in_use == sum(bool(holders) for _, holders, _ in self.model.values())

    @invariant()
    def no_two_entries_have_one_version(self):
        versions = [entry.version for entry in self.table]
        assert len(set(versions)) == len(versions)
        assert all(version <= self.table.version for version in versions)

    @invariant()
    def whoever_knows_an_entry_hears_of_its_change(self):
        """A copy that is kept up to date by the news alone is right, or of an entry that is gone."""
        copies = self.copies
        for news in self.table.news:
            for holder in range(3):
                if news.holders >> holder & 1:
                    copies[holder, news.key] = news.target
        self.table.news.clear()
        for entry in self.table:
            for holder in range(3):
                if entry.copies >> holder & 1:
                    assert copies.setdefault((holder, entry.key), entry.target) in (entry.target, ""), entry
                    copies[holder, entry.key] = entry.target
                else:
                    copies.pop((holder, entry.key), None)


AgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAgainstModel = AgainstModel.TestCase
