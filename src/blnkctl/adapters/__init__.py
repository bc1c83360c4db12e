"""The ports' implementations. None imports a use-case or another adapter."""
