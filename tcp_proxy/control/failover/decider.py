"""What a cluster has to do with an election that this node holds: an interface. Main thread only."""

from typing import Protocol

from tcp_proxy.sansio.election import Serve


class Decider(Protocol):
    """What a cluster has to do with it (clustered): this node decides, for as long as it may."""

    @property
    def epoch(self) -> int:
        """The highest that is known."""

    def begin(self) -> None:
        """Have an election: nobody is primary on any node. When that is so, `ask` is called."""

    def may_ask(self, epoch: int) -> bool: ...
    def may_act(self) -> bool: ...

    def publish(self, action: Serve) -> None:
        """Have all know. When they can, `serve` is called."""

    def lost(self, why: str) -> bool:
        """The primary cannot be connected to from here. Whether another node is to decide what that means."""

    def is_fruitless(self) -> bool:
        """No candidate can be primary. Whether another node is to try."""
