"""The errors that Tiercast raises on purpose; each message says what is wrong and what to do about it."""


class TiercastError(Exception):
    """Base of all our errors. A command prints its message, without a traceback, and exits with status 1."""


class SettingsError(TiercastError):
    """An environment variable has a value that cannot be used."""


class ConfigError(TiercastError):
    """The configuration file is missing, malformed or contradictory."""


class LedgerError(TiercastError):
    """The ledger cannot be used as it is."""


class LedgerUnavailable(LedgerError):
    """The ledger did not answer in time, or refused the connection."""


class LedgerFull(LedgerError):
    """The ledger has reached its limit of owed deliveries or of memory and records nothing more for now."""


class LedgerUnsuited(LedgerError):
    """The ledger's settings or layout contradict what Tiercast promises, so it refuses to start."""


class HistoryError(TiercastError):
    """The history cannot be used as it is."""


class HistoryUnavailable(HistoryError):
    """The database of the history did not answer in time, refused the connection or has no room."""


class HistoryRefused(HistoryError):
    """The database is not the history that belongs here, or not as Tiercast needs it."""
