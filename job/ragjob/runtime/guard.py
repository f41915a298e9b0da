"""Ends what a killed job leaves behind. A program of its own, with nothing but the standard library.

Usage: guard.py MARK FOLDER. MARK is a variable with its value, as it stands in the environment of all that the job
starts; FOLDER is the job's own. Ray's processes end with their parents only once they know each other: a kill while
they start leaves some for a minute or two.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

SCAN_S = 0.1
QUIET_SCANS = 3  # a process that is forked between two scans is found by the next


def main() -> None:
    """Wait for the end of standard input, which is the job's; then kill what has the mark, and remove the folder."""
    mark, folder = sys.argv[1:]
    sys.stdin.read()
    quiet = 0
    while quiet < QUIET_SCANS:
        family = _family(mark.encode())
        for pid in family:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if family else quiet + 1
        time.sleep(SCAN_S)
    shutil.rmtree(folder, ignore_errors=True)


def _family(mark: bytes) -> list[int]:
    """Ids of the processes that were started with `mark`."""
    family = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                family.append(int(process.name))
    return family


if __name__ == "__main__":
    main()
