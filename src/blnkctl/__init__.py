"""The command-line administration tool for the API keys of Blnk, an open-source financial ledger."""

__version__ = "0.1.0"
