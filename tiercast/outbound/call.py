"""Send one request and say what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import httpx

from ..actions import Halt, Permanent, RetryLater, Unknown
from .addresses import AddressRefused
from .answers import classify
from .deadline import Deadline, within

#: How many bytes of an answer are read, unless a kind says otherwise.
MAX_ANSWER = 1024 * 1024

#: Errors before the request left: nothing happened.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def send(
    client: httpx.Client,
    request: httpx.Request,
    *,
    timeout: float,
    secrets: Iterable[str] = (),
    personal: Iterable[str] = (),
    later: Collection[int] = frozenset(),
    unsure: Collection[int] = frozenset(),
    max_answer: int = MAX_ANSWER,
) -> httpx.Response:
    """Send `request` and return the answer, if its status is 2xx.

    Args:
        client: made by `make_client`.
        request: made by `client.build_request`.
        timeout: seconds for all of it, from looking for a connection to the last byte read.
        secrets: values that no message may repeat.
        personal: the same, of the customer; see `personal_values`.
        later: statuses below 500 that this vendor uses for "try again".
        unsure: statuses after which the effect may have happened nevertheless.
        max_answer: bytes of the answer that are kept; the rest is not read.

    Raises:
        RetryLater: no connection, or an answer that says so: nothing happened.
        Unknown: the request was sent, wholly or in part, and no answer came, or one that leaves it open.
        Halt, Permanent: as `classify` says; Halt also where the host's address is refused.
    """
    host = request.url.host
    with within(Deadline(timeout)):
        try:
            answer = _exchange(client, request, max_answer)
        except AddressRefused as error:
            raise Halt(str(error)) from None
        except _NOT_SENT as error:
            raise RetryLater(f"no connection to {host}: {_why(error)}") from None
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol):
            # Its message repeats the header that was wrong, which may be a credential.
            raise Permanent(f"the request to {host} cannot be sent: a header or the address is malformed") from None
        except httpx.TransportError as error:
            raise Unknown(f"no answer from {host} after the request was sent: {_why(error)}") from None
    classify(answer, secrets=secrets, personal=personal, later=later, unsure=unsure)
    return answer


def _exchange(client: httpx.Client, request: httpx.Request, max_answer: int) -> httpx.Response:
    streamed = client.send(request, stream=True)
    content = bytearray()
    try:
        for part in streamed.iter_raw():
            content += part
            if len(content) >= max_answer:
                break
    except httpx.TransportError:
        # The status has come, and it decides; a kind that needs the body finds it cut off.
        pass
    finally:
        streamed.close()
    headers = [
        (name, value)
        for name, value in streamed.headers.multi_items()
        if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    ]
    return httpx.Response(streamed.status_code, headers=headers, content=bytes(content[:max_answer]), request=request)


def _why(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
