"""What every kind that calls a vendor shares, for plug-ins too.

A kind makes one client for its life and sends each request through it:

    self._client = Client(timeout=timeout, vendor=Vendor(name="Stars", meanings={409: Meaning("later")}))
    ...
    answer = await self._client.send("POST", url, json={...}, timeout=job.timeout, secrets=[token], personal=job.event)

`send` returns an answer of status 2xx, and raises what `Action.perform` may raise for everything else. `Bulk` settles
the jobs of a bulk call one by one, `ValueForm` writes values as the vendor wants them, and `uuid_key`, `ulid_of` and
`short_key` make an idempotency key of the job's.
"""

from ..idempotency import short_key, ulid_key, uuid_key
from .addresses import AddressRefused, is_public, refuse_private_host
from .answers import FIXED_PATH, PATH_WITH_ID, Answer, TooLarge, classify, vendor_message
from .bulk import Bulk, Item, json_list
from .client import MAX_CONNECTIONS, Client
from .deadline import Deadline
from .encoding import encode_json
from .keys import ulid_of
from .redact import personal_values, redact, without_values
from .tokens import Token, TokenHolder, bearer, client_credentials
from .values import ValueForm, check_clear, iso_date, iso_datetime, unix_milliseconds, unix_seconds
from .vendors import Meaning, Vendor, body_object, usual_codes
from .waits import Waits, retry_after

__all__ = [
    "FIXED_PATH",
    "MAX_CONNECTIONS",
    "PATH_WITH_ID",
    "AddressRefused",
    "Answer",
    "Bulk",
    "Client",
    "Deadline",
    "Item",
    "Meaning",
    "Token",
    "TokenHolder",
    "TooLarge",
    "ValueForm",
    "Vendor",
    "Waits",
    "bearer",
    "body_object",
    "check_clear",
    "classify",
    "client_credentials",
    "encode_json",
    "is_public",
    "iso_date",
    "iso_datetime",
    "json_list",
    "personal_values",
    "redact",
    "refuse_private_host",
    "retry_after",
    "short_key",
    "ulid_key",
    "ulid_of",
    "unix_milliseconds",
    "unix_seconds",
    "usual_codes",
    "uuid_key",
    "vendor_message",
    "without_values",
]
