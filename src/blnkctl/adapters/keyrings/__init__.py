"""The OS keyring: Secret Service on Linux, Keychain on macOS, Credential Locker on Windows."""
