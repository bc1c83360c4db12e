"""Secrets sealed with age: the cipher, what a sealed record says, and the files of escrows. Knows no store."""
