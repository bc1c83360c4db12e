"""What the operating system offers: files, locks, signals, time. Knows nothing of keys, servers or commands."""
