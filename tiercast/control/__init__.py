"""Everything that an operator can change, in one place, for the command line and the console.

No function here prints or asks: results are values. Who asks is an `Actor`; each change writes an audit entry in the
same atomic step.
"""

from .actor import Actor
from .audit import AuditEntry, AuditFilter, AuditLog
from .changes import Control
from .verbs import VERBS, Verb

__all__ = ["VERBS", "Actor", "AuditEntry", "AuditFilter", "AuditLog", "Control", "Verb"]
