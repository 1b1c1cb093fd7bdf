"""Looks names up in threads of our own, so that a silent name server holds up neither a loop nor other names.

`getaddrinfo` cannot be given a time-out: with a name server that is silent it returns after 20 seconds to four
minutes. So each look-up has a thread, which whoever asked leaves behind when the attempt's time is over.

- A name is looked up by one thread at a time; all who ask for it meanwhile get the same answer.
- `THREADS` look-ups run at once in this process; the rest wait in a queue.
- A name that has not yet been resolved here, or was last silent or slower than `SLOW_SECONDS`, may use only half of
  the threads: names that never answer leave the other half to those that do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future

from aiohttp.abc import AbstractResolver, ResolveResult

from .addresses import canonical, refuse_private_addresses

#: The most look-ups at once in a process.
THREADS = 64

#: A look-up that took longer says that its name, or its name server, is in trouble.
SLOW_SECONDS = 2.0

#: How long a client uses the addresses that it has found. Short: a vendor moves its hosts at times.
KEEP_SECONDS = 5.0

#: The most names that are remembered.
_MOST_NAMES = 1024

#: Family and address of each way to a host.
Addresses = tuple[tuple[socket.AddressFamily, str], ...]


class Lookups:
    """All look-ups of a process. Threads of any number of loops may ask it."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Addresses]] = {}
        self._queues: dict[bool, deque[str]] = {True: deque(), False: deque()}
        self._running = {True: 0, False: 0}
        self._proven: OrderedDict[str, None] = OrderedDict()

    def find(self, host: str) -> Future[Addresses]:
        """Begin to look `host` up, or join who does already. The result is shared: do not cancel it."""
        with self._lock:
            future = self._asked.get(host)
            if future is not None:
                return future
            future = self._asked[host] = Future()
            proven = host in self._proven
            if not self._has_room(proven):
                self._queues[proven].append(host)
                return future
            self._running[proven] += 1
        thread = threading.Thread(target=self._work, args=(host, proven), name="tiercast-names", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._running[proven] -= 1
                self._asked.pop(host, None)
            future.set_exception(OSError(f"no thread to look the name up in: {error}"))
        return future

    def _has_room(self, proven: bool) -> bool:
        """Whether one more may run; with the lock held."""
        if not proven and self._running[False] >= self._threads // 2:
            return False
        return sum(self._running.values()) < self._threads

    def _work(self, host: str, proven: bool) -> None:
        """Look one name up, and then those that wait."""
        while True:
            self._look_up(host)
            with self._lock:
                self._running[proven] -= 1
                waiting = next(
                    (which for which in (True, False) if self._queues[which] and self._has_room(which)), None
                )
                if waiting is None:
                    return
                proven = waiting
                host = self._queues[proven].popleft()
                self._running[proven] += 1

    def _look_up(self, host: str) -> None:
        began = time.monotonic()
        found: Addresses = ()
        error: OSError | None = None
        try:
            found = _addresses(host)
        except OSError as failed:
            error = failed
        except (UnicodeError, ValueError):
            error = socket.gaierror(socket.EAI_NONAME, "not a name that can be looked up")
        with self._lock:
            future = self._asked.pop(host)
            if found and time.monotonic() - began <= SLOW_SECONDS:
                self._proven[host] = None
                self._proven.move_to_end(host)
                if len(self._proven) > _MOST_NAMES:
                    self._proven.popitem(last=False)
            else:
                self._proven.pop(host, None)
        if error is not None:
            future.set_exception(error)
        elif not found:
            future.set_exception(socket.gaierror(socket.EAI_NONAME, "no address"))
        else:
            future.set_result(found)


def _addresses(host: str) -> Addresses:
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys((socket.AddressFamily(entry[0]), str(entry[4][0])) for entry in entries))


_lookups = Lookups()


def _forget() -> None:
    """Begin anew in a forked child: its parent's threads, and who held their lock, are not there."""
    global _lookups
    _lookups = Lookups()


os.register_at_fork(after_in_child=_forget)


class Resolver(AbstractResolver):
    """Resolves names for the connections of one client, and refuses private addresses where it is told to.

    Args:
        allowed: None to allow every address; else the names that may have private ones.
    """

    def __init__(self, allowed: frozenset[str] | None) -> None:
        self._allowed = allowed
        self._kept: OrderedDict[str, tuple[float, Addresses]] = OrderedDict()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`; a connection goes to one of these and to nothing else.

        Raises:
            AddressRefused: an address is private, and the host is not allowed to have such.
            OSError: the name cannot be resolved.
        """
        found = self._known(host)
        if found is None:
            found = await _result(_lookups.find(host))
            if self._allowed is not None and canonical(host) not in self._allowed:
                refuse_private_addresses(host, (address for _, address in found))
            self._keep(host, found)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=int(socket.AI_NUMERICHOST)
            )
            for kind, address in found
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Forget what was found."""
        self._kept.clear()

    def _known(self, host: str) -> Addresses | None:
        until, found = self._kept.get(host, (0.0, ()))
        return found if time.monotonic() < until else None

    def _keep(self, host: str, found: Addresses) -> None:
        self._kept[host] = (time.monotonic() + KEEP_SECONDS, found)
        self._kept.move_to_end(host)
        if len(self._kept) > _MOST_NAMES:
            self._kept.popitem(last=False)


async def _result(shared: Future[Addresses]) -> Addresses:
    """Wait for a look-up that others may wait for too: to cancel the wait does not cancel it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    shared.add_done_callback(_from_thread(loop, wake))
    await done
    return shared.result()


def _from_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[Future[Addresses]], None]:
    def callback(_shared: Future[Addresses]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and with it who waited
            loop.call_soon_threadsafe(call)

    return callback
