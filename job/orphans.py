"""Ends what a killed job leaves behind. A process of its own, run beside the job with nothing but its standard library.

Ray's processes end with their parents only once they know each other: a kill while they start leaves some
for a minute or two. All that the job starts has a mark in its environment, and is found by it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

MARK = "RAGJOB_FAMILY"
SCAN_S = 0.1
QUIET_SCANS = 3  # what is forked between two scans is found by the next


@contextmanager
def ended_with_this_process() -> Iterator[dict[str, str]]:
    """A guard for the time of the block; gives the variable to start processes with that must not outlive it."""
    mark = uuid4().hex
    # Isolated from this program's environment and path, and in a session that no terminal or kill reaches.
    guard = subprocess.Popen(
        [sys.executable, "-I", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield {MARK: mark}
    finally:
        guard.communicate()


def _family(mark: bytes) -> list[int]:
    """Process ids of those that were started with `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def main() -> None:
    """Wait for the end of standard input, which is the job's, and kill what has the mark."""
    mark = f"{MARK}={sys.argv[1]}".encode()
    sys.stdin.read()
    quiet = 0
    while quiet < QUIET_SCANS:
        family = _family(mark)
        for pid in family:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if family else quiet + 1
        time.sleep(SCAN_S)


if __name__ == "__main__":
    main()
