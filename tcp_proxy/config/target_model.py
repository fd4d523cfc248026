"""Where targets are listed, and from where they are connected to: checked, frozen values; as `model`, which imports this."""

from dataclasses import field

from tcp_proxy.sansio.frozen_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """From where connects come; what is not said is the kernel's choice."""

    addresses: tuple[str, ...] = ()  # and ranges of them (sansio.source)
    interface: str = ""
    transparent: bool = False  # those of sessions come from the client's own address


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where targets of an app are listed."""

    source: str  # "srv:NAME", "file:PATH"
    template: str = ""  # what is said of each of them, as an object in JSON
    first: str = field(default="", repr=False, compare=False)  # the list as it was told to who read this, if it was new
