"""The ledger: the durable record of deliveries, events, jobs, and of what is owed and when it is due."""

from .digests import Digests
from .opening import examine, open_ledger, prepare
from .store import Ledger, new_token

__all__ = ["Digests", "Ledger", "examine", "new_token", "open_ledger", "prepare"]
