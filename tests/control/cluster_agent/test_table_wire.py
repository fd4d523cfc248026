"""The agent's end of the wire to the tables: the other end is the tables' own."""

import asyncio

from kit.waiting import wait_until
from tcp_proxy.control.cluster_agent.table_wire import TableWire
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.stick_table import Wire, pair


def test_batches_in_order_in_both_directions_and_more_than_fits():
    ours, theirs = pair()
    loop, heard = Loop("tables"), []
    wire = Wire(loop, ours, heard.extend, lambda: heard.append("end"))
    many = [(7, "web", f"key {number}", "t" * 100) for number in range(20_000)]

    async def whole():
        received = []
        table_wire = TableWire(theirs, received.extend)
        table_wire.send(many[:10])
        table_wire.send(many[10:])
        table_wire.send([])
        while len(heard) < len(many):
            loop.run_once(0)
            await asyncio.sleep(0)
        wire.send(many[:300])
        while len(received) < 300:
            loop.run_once(0)
            await asyncio.sleep(0)
        assert received == many[:300]
        table_wire.close()
        table_wire.close()
        table_wire.send(many)

    asyncio.run(whole())
    assert heard == many
    wait_until(lambda: loop.run_once(0.01) or heard[-1] == "end", "its end")
    loop.close()


def test_an_end_that_is_gone():
    ours, theirs = pair()

    async def whole():
        table_wire = TableWire(theirs, print)
        ours.close()
        table_wire.send([(1,)])
        while table_wire._is_open:
            await asyncio.sleep(0)

    asyncio.run(whole())
