"""Blnk's HTTP API as a `KeyServer`."""
