"""`python -m job` is `ragjob`."""

from job.cli import main

main()
