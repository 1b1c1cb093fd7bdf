"""Starts a module as `python -m` does, whatever modules lie in the current folder.

The receiver and Celery run in the user's folder, since its configuration names files and kinds there. A `worker.py` or
`redis.py` in it must not take the place of ours. `python -P` alone does not keep it out: Celery and granian put the
current folder at the head of the path themselves. A kind in the folder is still found, after everything else.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class CurrentFolderLast(MetaPathFinder):
    """Looks for modules everywhere on the path but in the current folder; Python's own finder then looks there too."""

    def __init__(self) -> None:
        self._here = os.path.realpath(".")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a top-level module."""
        if path is not None:
            return None
        elsewhere = [entry for entry in sys.path if entry and os.path.realpath(entry) != self._here]
        return PathFinder.find_spec(fullname, elsewhere, target)


def main() -> None:
    """Run the module that the first argument names, with the other arguments."""
    name = sys.argv[1]
    del sys.argv[1]
    sys.meta_path.insert(sys.meta_path.index(PathFinder), CurrentFolderLast())
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
