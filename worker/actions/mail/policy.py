"""Tell a policy that refuses one mail from one that refuses them all."""

from __future__ import annotations

import time
from collections import defaultdict

from tiercast.actions import Halt, Permanent, RetryLater

#: So many different mails refused in the same way, and none accepted between: it is the set-up, and not the mails.
REFUSALS_MAX = 3

#: Seconds for which an accepted mail shows that the set-up is right.
ACCEPTED_SECONDS = 600.0


class PolicyWatch:
    """What a policy refusal means, from what became of the action's other mails in this process.

    Servers answer 5.7.x both where they take a mail for spam and where nothing of the sender's domain may pass.
    """

    def __init__(self) -> None:
        self._accepted_at: float | None = None
        self._refused: dict[str, set[str]] = defaultdict(set)

    def accepted(self) -> None:
        """Note that the server took a mail."""
        self._accepted_at = time.monotonic()
        self._refused.clear()

    def refused(self, key: str, reason: str, message: str) -> Exception:
        """What the refusal of the job `key` means, for a `reason` such as "550 7.1"."""
        if self._accepted_at is not None and time.monotonic() - self._accepted_at < ACCEPTED_SECONDS:
            return Permanent(message)
        keys = self._refused[reason]
        if len(keys) < REFUSALS_MAX:
            keys.add(key)
        if len(keys) < REFUSALS_MAX:
            return RetryLater(message)
        return Halt(
            f"{message}; {REFUSALS_MAX} mails were refused like this and none was accepted: check the sender's domain "
            "(SPF, DKIM, DMARC) and what the server lets this user send",
            cause="setting",
        )
