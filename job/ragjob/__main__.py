"""`python -m ragjob` is `ragjob`."""

import sys

if not sys.flags.safe_path:
    # `python -m` put the current folder there: a user's `tokenizers.py` would be imported as the library.
    del sys.path[0]

from ragjob.cli.main import main

main()
