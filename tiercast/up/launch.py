"""Starts a module as `python -m` does, whatever modules lie in the current folder.

The receiver and Celery run in the user's folder, since its configuration names files and kinds there. A `worker.py` or
`redis.py` in it must not take the place of ours: `python -P` keeps the folder off the path, and this loads our Celery
app before `celery -A worker` looks for it in the folder. Kinds in the folder are still found, after everything else.
"""

from __future__ import annotations

import importlib
import runpy
import sys


def main() -> None:
    """Run the module that the first argument names, with the other arguments."""
    name = sys.argv[1]
    del sys.argv[1]
    if name == "celery":
        importlib.import_module("worker.celery")
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
