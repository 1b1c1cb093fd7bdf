"""The sessions of one action: a small stack of idle ones, shared by its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tiercast.outbound import Deadline

from .errors import Stale
from .message import Mail
from .place import Server
from .session import Session

#: Seconds after which an idle session is closed; servers close theirs after five minutes or sooner (RFC 5321
#: 4.5.3.2.7), and many count the idle ones.
_KEEP_IDLE = 15.0

_MOST_IDLE = 4


class Sessions:
    """Sends mails over as few sessions as there are threads sending at once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._idle: list[Session] = []

    def deliver(self, mail: Mail, deadline: Deadline, *, personal: Iterable[str] = ()) -> str:
        """Send one mail; see `Session` for what is raised."""
        session = self._take()
        if session is not None:
            try:
                return self._over(session, mail, deadline, personal)
            except Stale:
                pass
        return self._over(Session(self._server, deadline), mail, deadline, personal)

    def close(self) -> None:
        """Close what is idle, politely."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.quit()

    def _over(self, session: Session, mail: Mail, deadline: Deadline, personal: Iterable[str]) -> str:
        try:
            return session.deliver(mail, deadline, personal=personal)
        finally:
            self._give_back(session)

    def _take(self) -> Session | None:
        now = time.monotonic()
        with self._lock:
            fresh = [session for session in self._idle if now - session.idle_since < _KEEP_IDLE]
            old = [session for session in self._idle if now - session.idle_since >= _KEEP_IDLE]
            taken = fresh.pop() if fresh else None
            self._idle = fresh
        for session in old:
            session.close()
        return taken

    def _give_back(self, session: Session) -> None:
        session.mark_idle()
        with self._lock:
            keep = session.usable and len(self._idle) < _MOST_IDLE
            if keep:
                self._idle.append(session)
        if not keep:
            session.close()
