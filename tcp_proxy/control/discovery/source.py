"""What is counted and shown of a source of targets. Main thread only."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class SourceState:
    source: str
    apps: tuple[str, ...] = ()
    targets: int = 0  # that it lists; of a DNS with weights and priorities, servers
    changes: int = 0  # that were applied
    failures: int = 0  # answers that were none, or wrong, or could not be applied
    error: str = ""  # of the last one
    is_answered: bool = False  # well or ill

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
