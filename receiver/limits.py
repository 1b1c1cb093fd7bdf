"""How much each process of the receiver takes at once. Nothing is imported here: the server reads it before the app."""

from __future__ import annotations

#: Connections that each process takes at once; further ones wait in the backlog.
CONNECTIONS = 640
