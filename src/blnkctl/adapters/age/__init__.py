"""The age store: one file a key, encrypted to recipients, readable with the stock `age -d`."""
