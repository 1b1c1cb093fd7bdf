"""What becomes of a request at `/webhooks/<source>`: size, source, signature, enqueue, 202.

Voucherify retries whatever is not answered 2xx for about a day and then pauses the feed. So an authentic request
gets a 2xx whatever it holds, and 503 only where it could be stored nowhere. The body is never parsed. One above
`max_body` is checked while it streams by, and a note of its size and digest is stored in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tiercast.config.model import Source
from tiercast.errors import LedgerError
from tiercast.settings import HARD_MAX_BODY
from tiercast.signature import Authentic, AuthenticStream, Verdict, authenticate, authenticate_stream, header_fault

from .answers import RETRY_AFTER, Answer, EarlyAnswer, unstored_answer
from .body import PIECE_BYTES, ROOM, BodyIncomplete, BodyTooLarge, NoRoom, Room, declared_length, read_body
from .edge import Edge
from .enqueue import Enqueue
from .refusals import Refusals

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_SIGNATURE = "HTTP_X_VOUCHERIFY_SIGNATURE"

#: The same to everybody who is refused: which check it was stands in the log only.
_UNSIGNED = '{"error": "no valid signature"}'

#: Bytes up to which a body is read though its signature cannot match: its connection can be kept then.
_LITTLE = 16 * 1024


class Webhooks:
    """What becomes of one request at `/webhooks/<source>`.

    Args:
        sources: by name.
        enqueue: stores an authentic body.
        max_body: bytes up to which a body is kept.
        edge: what a request must have beside its signature, if anything.
        hard_max: bytes above which a body is refused.
        refusals: counts and logs refused requests.
        room: the memory that large bodies may take.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        enqueue: Enqueue,
        *,
        max_body: int,
        edge: Edge | None = None,
        hard_max: int = HARD_MAX_BODY,
        refusals: Refusals | None = None,
        room: Room = ROOM,
    ) -> None:
        self._sources = sources
        self._enqueue = enqueue
        self._max_body = max_body
        self._hard_max = hard_max
        self._edge = edge
        self._refusals = refusals or Refusals()
        self._room = room

    def answer(self, environ: WSGIEnvironment, source: str) -> Answer:
        """Check size, source and signature, store, answer; what is not expected is raised."""
        known = self._sources.get(source)
        if known is None:
            # The name is a stranger's text, so only ours are logged.
            self._refusals.note(None, "unknown source", known=", ".join(self._sources))
            return EarlyAnswer('{"error": "unknown source"}', 404)
        if reason := self._fault_of_headers(environ):
            return self._refuse_early(environ, source, reason)
        try:
            return self._read(environ, known)
        except BodyTooLarge:
            self._refusals.note(source, f"body above {self._hard_max} bytes")
            return EarlyAnswer('{"error": "body too large"}', 413)
        except BodyIncomplete:
            self._refusals.note(source, "the body broke off or took too long")
            return EarlyAnswer(_UNSIGNED, 401)
        except NoRoom:
            self._refusals.note(source, "too many large bodies at once")
            return EarlyAnswer('{"error": "cannot store now"}', 503, {"Retry-After": RETRY_AFTER})

    def _fault_of_headers(self, environ: WSGIEnvironment) -> str | None:
        """Why a request is refused whatever its body is; None if it is not."""
        if self._edge is not None and (refusal := self._edge.refusal(environ)):
            return refusal
        verdict = header_fault(environ.get(_SIGNATURE))
        return None if verdict is None else verdict.reason

    def _read(self, environ: WSGIEnvironment, source: Source) -> Answer:
        """Read the body and store it. Room is taken for a large one only."""
        length = declared_length(environ)
        if length is not None and length <= min(PIECE_BYTES, self._max_body):
            return self._store(read_body(environ, keep=self._max_body, most=self._hard_max), environ, source)
        with self._room.take() as take:
            body = read_body(environ, keep=self._max_body, most=self._hard_max, take=take)
            return self._store(body, environ, source)

    def _store(self, body: bytes | Iterator[bytes], environ: WSGIEnvironment, source: Source) -> Answer:
        header = environ.get(_SIGNATURE)
        checked: Authentic | AuthenticStream | Verdict
        if isinstance(body, bytes):
            checked = authenticate(body, header, source.secrets)
        else:
            checked = authenticate_stream(body, header, source.secrets)
        if isinstance(checked, Verdict):
            self._refusals.note(source.name, checked.reason)
            return Answer(_UNSIGNED, 401)
        try:
            delivery_id = self._enqueue(checked, source.name)
        except LedgerError:
            return unstored_answer()
        return Answer(f'{{"delivery": "{delivery_id}"}}', 202)

    def _refuse_early(self, environ: WSGIEnvironment, source: str, reason: str) -> Answer:
        """Refuse without the body, which is not worth its time; a small one is read all the same."""
        self._refusals.note(source, reason)
        length = declared_length(environ)
        if length is not None and length <= _LITTLE:
            try:
                read_body(environ, keep=_LITTLE, most=_LITTLE)
            except BodyIncomplete:
                return EarlyAnswer(_UNSIGNED, 401)
            return Answer(_UNSIGNED, 401)
        return EarlyAnswer(_UNSIGNED, 401)
