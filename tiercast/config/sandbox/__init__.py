"""Jinja's sandbox for templates and `when`, made stricter.

Jinja's own sandbox keeps templates away from Python's internals. What is added here: attributes of Python objects
are out of reach altogether (a lookup finds items of the event's JSON and nothing else), null and missing are the
same and harmless, and every evaluation has a budget of steps and of size, so that no template can hang a worker
or fill its memory. Templates are written by those who run Tiercast; the bounds protect them from accidents, and
make it safe to let colleagues edit the file.
"""

from .budget import SIZE, STEPS, TemplateFault
from .compiled import Expression, Template, View, view_of
from .null import MetNull
from .syntax import Refused

__all__ = ["SIZE", "STEPS", "Expression", "MetNull", "Refused", "Template", "TemplateFault", "View", "view_of"]
