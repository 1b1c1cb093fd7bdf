"""The sessions of one action: a bounded number of connections, used again and again."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from tiercast.actions import RetryLater, Unavailable, Unknown

from .errors import Busy, Stale
from .message import Mail
from .place import Server
from .resolve import Resolver
from .session import Progress, Session, open_session

#: Seconds after which an idle session is closed. Servers close theirs after five minutes or sooner (RFC 5321
#: 4.5.3.2.7), and many count the idle ones.
IDLE_SECONDS = 15.0

#: Seconds that the number of sessions stays at what the server bore when it refused one more.
LEARNT_SECONDS = 60.0


class Sessions:
    """Sends mails over at most `limit` sessions for each event loop; a process has one loop."""

    def __init__(self, server: Server, limit: int) -> None:
        self._server = server
        self._limit = limit
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    async def deliver(self, mail: Mail, seconds: float, *, personal: Iterable[str] = ()) -> str:
        """Send one mail within `seconds`, from waiting for a session to the last answer; return the server's words.

        Raises:
            RetryLater: all sessions were in use, or as `Session.deliver` says; nothing happened.
            Unavailable: the server cannot be reached, or did not answer in time; nothing happened.
            Unknown: the server has the mail, and no answer came in time.
            Permanent, Halt, SenderRefused, PolicyRefused: as `Session.deliver` and `open_session` say.
        """
        progress = Progress()
        try:
            async with asyncio.timeout(seconds):
                return await self._pool().deliver(mail, progress, personal)
        except TimeoutError:
            raise self._out_of_time(progress) from None

    def close(self) -> None:
        """Close what is idle, politely; may be called from any thread, and more than once."""
        with self._lock:
            pools = dict(self._pools)
        for loop, pool in pools.items():
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(pool.close_idle)

    def _out_of_time(self, progress: Progress) -> Exception:
        host = self._server.host
        if progress.sent:
            return Unknown(f"{host} had the mail and did not answer in time")
        if progress.step == Progress().step:
            return RetryLater(
                f"all {self._limit} connections to {host} were in use; see the options connections and timeout",
                everyone=True,
            )
        return Unavailable(f"{host} timed out: the attempt's time ran out while waiting for {progress.step}")

    def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._context is None and self._server.tls != "none":
                self._context = ssl.create_default_context()
            pool = self._pools.get(loop)
            if pool is None:
                for old in [old for old in self._pools if old.is_closed()]:
                    del self._pools[old]
                pool = self._pools[loop] = _Pool(self._server, self._context, self._limit)
            return pool


class _Pool:
    """The sessions of one event loop."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, limit: int) -> None:
        self._server = server
        self._context = context
        self._resolver = Resolver(server.host, server.port)
        self._most = limit
        self._learnt: tuple[float, int] | None = None
        self._open = 0
        self._idle: list[Session] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._janitor: asyncio.Task[None] | None = None

    async def deliver(self, mail: Mail, progress: Progress, personal: Iterable[str]) -> str:
        """Send one mail over an idle session or a new one."""
        while True:
            session = await self._take(progress)
            try:
                return await session.deliver(mail, progress, personal)
            except Stale:
                pass  # the next one, or a new one
            except asyncio.CancelledError:
                session.abort()
                raise
            finally:
                self._give_back(session)

    def close_idle(self) -> None:
        """Say goodbye on every idle session."""
        idle, self._idle = self._idle, []
        for session in idle:
            session.quit()
        self._open -= len(idle)
        if self._janitor is not None:
            self._janitor.cancel()
            self._janitor = None

    async def _take(self, progress: Progress) -> Session:
        waited = False
        while True:
            while self._idle:
                session = self._idle.pop()
                if session.usable:
                    return session
                self._open -= 1
            if self._open < self._limit():
                try:
                    return await self._new(progress)
                except Busy:
                    if not self._learn():
                        raise
                    continue
            progress.step = Progress().step
            await self._turn(first=waited)
            waited = True

    async def _new(self, progress: Progress) -> Session:
        self._open += 1
        try:
            return await open_session(self._server, self._context, self._resolver, progress)
        except BaseException:
            self._open -= 1
            self._wake()
            raise

    def _limit(self) -> int:
        if self._learnt is not None and asyncio.get_running_loop().time() >= self._learnt[0]:
            self._learnt = None
        return self._learnt[1] if self._learnt is not None else self._most

    def _learn(self) -> bool:
        """The server takes no further session: do with those that are open, if there are any."""
        if self._open < 1:
            self._learnt = None
            return False
        self._learnt = asyncio.get_running_loop().time() + LEARNT_SECONDS, self._open
        return True

    async def _turn(self, *, first: bool) -> None:
        """Wait until a session may be free: first come, first served; `first` for one that came too late before."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._wake()  # it was this one's turn, and now it is the next one's
            raise

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _give_back(self, session: Session) -> None:
        if session.usable and self._open <= self._limit():
            session.idle_since = asyncio.get_running_loop().time()
            self._idle.append(session)
            if self._janitor is None or self._janitor.done():
                self._janitor = asyncio.create_task(self._close_in_time(), name="mail-sessions")
        else:
            session.quit()
            self._open -= 1
        self._wake()

    async def _close_in_time(self) -> None:
        """Close sessions that were idle for long; all of them when the event loop ends, which cancels this task."""
        loop = asyncio.get_running_loop()
        try:
            while self._idle:
                await asyncio.sleep(max(0.05, self._idle[0].idle_since + IDLE_SECONDS - loop.time()))
                old = [session for session in self._idle if loop.time() - session.idle_since >= IDLE_SECONDS]
                self._idle = [session for session in self._idle if session not in old]
                self._open -= len(old)
                for session in old:
                    session.quit()
        finally:
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            for session in idle:
                session.quit()
