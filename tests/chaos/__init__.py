"""The chaos harness: kills, freezes and starves real processes under load, and counts what was lost or doubled."""
