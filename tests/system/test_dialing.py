"""How a session finds a target: the next one when one fails, and what the client sees when there is none."""


from kit.clogged import clog
from kit.ports import free_port
from kit.waiting import Stopwatch, wait_until


def dead():
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def test_a_refusing_target_costs_the_client_nothing(proxy, target):
    alive, gone = target(), dead()
    program = proxy(targets=[gone, alive])
    for number in range(10):
        client = program.connect()
        client.send(b"message %d" % number)
        server = alive.accept()
        server.expect(b"message %d" % number).fin()
        client.expect_fin().fin()
        server.expect_fin()
    records = program.records(10)
    assert {record["reason"] for record in records} == {"done"}
    assert {record["target"] for record in records} == {alive.address}
    tried = [record["tried"] for record in records if record["tried"]]
    assert tried
    assert all(entry == [{"target": gone, "error": "ECONNREFUSED"}] for entry in tried)


def test_retries_are_further_targets(proxy):
    program = proxy(targets=[dead() for _ in range(6)], retries=2)
    client = program.connect()
    client.expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["target"]) == ("connect_failed", "target", "")
    assert [entry["error"] for entry in record["tried"]] == ["ECONNREFUSED"] * 3
    assert len({entry["target"] for entry in record["tried"]}) == 3
    assert record["errno"] == "ECONNREFUSED"


def test_no_retries(proxy, target):
    alive = target()
    program = proxy(targets=[dead(), alive], retries=0)
    outcomes = set()
    for _ in range(4):
        client = program.connect()
        if alive.has_client(0.2):
            alive.accept().close()
        client.read_to_end()
        client.close()
        outcomes.add(client.ended)
    assert outcomes == {"fin", "rst"}
    assert {record["reason"] for record in program.records(4)} == {"done", "connect_failed"}


def test_a_lone_target_is_tried_once_more_after_100_ms(proxy):
    program = proxy(targets=[dead()])
    watch = Stopwatch()
    client = program.connect()
    client.expect_rst()
    assert 0.09 <= watch.seconds < 8
    assert len(program.record()["tried"]) == 2


def test_a_lone_target_that_comes_back_within_100_ms_gets_the_session(proxy, target):
    port = free_port()
    program = proxy(targets=[f"127.0.0.1:{port}"])
    client = program.connect()
    client.send(b"hello")
    server_side = target(port=port)
    client.fin()
    server_side.accept().expect(b"hello").expect_fin().fin()
    client.expect_fin()
    record = program.record()
    assert len(record["tried"]) <= 1
    assert record["target"] == server_side.address


def test_no_eligible_target_is_a_reset_at_once(proxy, target):
    program = proxy(targets=[{"address": target().address, "disabled": True}], timeouts={"connect": 60})
    client = program.connect()
    client.expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["tried"]) == ("no_target", "proxy", [])


def test_no_target_is_told_before_the_client_has_sent_anything(proxy, target):
    program = proxy(targets=[{"address": target().address, "disabled": True}])
    for _ in range(20):
        program.connect().expect_rst()
    assert {record["reason"] for record in program.records(20)} == {"no_target"}


def test_a_target_that_swallows_connects_times_out_and_the_next_one_serves(proxy, target):
    """A blackhole: the listener's queue is full, its kernel drops every SYN."""
    hole, alive = target(backlog=0), target()
    with clog(hole):
        program = proxy(targets=[hole, alive], timeouts={"connect": 0.3})
        for _ in range(4):
            client = program.connect()
            client.send(b"x").fin()
            alive.accept().expect(b"x").expect_fin().fin()
            client.expect_fin()
        records = program.records(4)
    timed_out = [record for record in records if record["tried"]]
    assert timed_out
    assert all(record["tried"] == [{"target": hole.address, "error": "ETIMEDOUT"}] for record in timed_out)
    assert all(record["connect_seconds"] >= 0.3 for record in timed_out)


def test_dial_ends_after_twice_connect(proxy, target, servers):
    holes = [target(backlog=0) for _ in range(5)]
    for hole in holes:
        servers.enter_context(clog(hole))
    program = proxy(targets=holes, timeouts={"connect": 0.3}, retries=4)
    watch = Stopwatch()
    client = program.connect()
    client.expect_rst()
    assert watch.seconds >= 0.55
    record = program.record()
    assert record["reason"] == "connect_failed"
    assert len(record["tried"]) == 2


def test_a_slow_connect_holds_up_nobody_else(proxy, target, service):
    """The original's fault: connects made one after another in the accept loop."""
    hole, quick = target(backlog=0), service()
    with clog(hole):
        slow_port, quick_port = free_port(), free_port()
        common = {"health": [], "timeouts": {"connect": 60}}
        program = proxy({
            "apps": [
                {"name": "slow", "ports": [slow_port], "targets": [hole.address], **common},
                {"name": "quick", "ports": [quick_port], "targets": [quick.address], **common},
            ]
        })
        stuck = [program.connect(slow_port) for _ in range(20)]
        for _ in range(20):
            program.connect(quick_port).send(b"now").expect(b"now")
        for client in stuck:
            client.expect_silence(0)
            client.close()


def test_a_client_that_gives_up_while_we_dial_ends_the_dial(proxy, target):
    hole = target(backlog=0)
    with clog(hole):
        program = proxy(targets=[hole], timeouts={"connect": 30})
        client = program.connect()
        wait_until(lambda: program.sockets() == 2, "the dial")
        client.rst()
        record = program.record(seconds=2.0)
    assert (record["reason"], record["ended_by"]) == ("client_gone", "client")


def test_a_target_that_hangs_up_at_once_was_still_connected(proxy, target):
    """Connected, answered and closed before the proxy looked: no failed connect, and the answer arrives."""
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(50):
        client = program.connect()
        server = server_side.accept()
        server.send(b"go away").fin()
        client.expect(b"go away").expect_fin().fin()
        server.expect_fin()
    assert all(record["tried"] == [] and record["reason"] == "done" for record in program.records(50))


def test_a_missing_unix_socket_is_a_failed_connect(proxy, target, tmp_path):
    alive = target()
    program = proxy(targets=[f"unix:{tmp_path}/nobody", alive])
    for _ in range(2):
        client = program.connect()
        alive.accept().fin()
        client.expect_fin().fin()
    tried = [record["tried"] for record in program.records(2)]
    assert [{"target": f"unix:{tmp_path}/nobody", "error": "ENOENT"}] in tried


def test_a_failed_connect_asks_for_a_probe_at_once(proxy, target):
    port = free_port()
    server_side, alive = target(port=port), target()
    check = {"interval": 60, "timeout": 1}
    program = proxy(targets=[server_side, alive], health=check)
    program.uncounted = None
    program.wait_log(f"target {server_side.address} is up")
    server_side.close()
    for _ in range(4):
        program.connect().close()
    program.wait_log(f"target {server_side.address} is down .*refused", seconds=3.0)
