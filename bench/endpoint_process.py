"""The endpoint as a process of its own, seen from the measuring programs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Self

from .endpoint import Spec, Stats
from .environments import ROOT, python

#: Seconds between two looks at what the endpoint has counted.
_LOOK_SECONDS = 0.05

#: A secret of Standard Webhooks: 24 bytes in base64, as an endpoint would give it out. The prefix is the sender's.
SECRET = "YmVuY2gtZW5kcG9pbnQtc2VjcmV0LTI0"


class EndpointProcess:
    """Starts an endpoint; it ends with the context.

    Args:
        spec: what it is.
        interpreter: which Python runs it; by default the peers', which has uvloop.
    """

    def __init__(self, spec: Spec, *, interpreter: str = "") -> None:
        self.spec = spec
        self._interpreter = interpreter or python("flask")

    def __enter__(self) -> Self:
        command = [self._interpreter, "-m", "bench.endpoint", json.dumps(asdict(self.spec))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
        )
        try:
            self.port = int(json.loads(self._answer())["port"])
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def stats(self) -> Stats:
        """What it has counted since the last reset."""
        return self._ask("stats")

    def reset(self) -> Stats:
        """Have it count anew; its CPU time goes on."""
        return self._ask("reset")

    def until(self, so: Callable[[Stats], bool], *, seconds: float, check: Callable[[], None]) -> Stats:
        """Wait until what it has counted is so, or the time is over; `check` is called at each look."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.stats()
            if so(found) or time.monotonic() > deadline:
                return found
            check()
            time.sleep(_LOOK_SECONDS)

    def _ask(self, what: str) -> Stats:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        return Stats(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the endpoint ended with status {self._process.wait()}")
        return line

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
