"""`python -m tiercast.cli` is `tiercast`."""

from . import main

main(prog_name="tiercast")
