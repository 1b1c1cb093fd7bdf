"""What every side of Tiercast shares: settings, configuration, ledger, event model, plug-in API, commands."""

__version__ = "0.1.0"
