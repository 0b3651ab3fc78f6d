"""`python -m mixpeek_batches.cli`."""

from . import main

main()
