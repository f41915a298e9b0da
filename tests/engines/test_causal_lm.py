"""What engines that hold a model do about its memory."""

import os
import subprocess
import sys

from ragjob.engines.causal_lm import KEEP_MEMORY

# Prints the page faults of the last of 20 blocks of 64 MB, 16,384 pages, that another thread than the first one frees.
FREE_BLOCKS = """
from concurrent.futures import ThreadPoolExecutor
from resource import RUSAGE_SELF, getrusage

import numpy as np

def faults():
    before = getrusage(RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return getrusage(RUSAGE_SELF).ru_minflt - before

with ThreadPoolExecutor(1) as other:
    print([other.submit(faults).result() for _ in range(20)][-1])
"""


def test_memory_that_a_batch_frees_is_kept_for_the_next() -> None:
    program = [sys.executable, "-c", FREE_BLOCKS]
    completed = subprocess.run(program, env=os.environ | KEEP_MEMORY, capture_output=True, text=True, check=True)
    assert int(completed.stdout) < 1000
