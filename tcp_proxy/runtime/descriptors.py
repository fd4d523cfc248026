"""How many descriptors this process has open. Any thread.

Linux says it since 6.2 as the size of a folder, in 2 us. Before, the folder has to be listed: 10 ms for 10,000 of them, in
which no byte of a worker moves.
"""

import os

FOLDER = "/proc/self/fd"


def open_descriptors() -> int:
    """Raises OSError: none is left for looking."""
    return os.stat(FOLDER).st_size or len(os.listdir(FOLDER)) - 1
