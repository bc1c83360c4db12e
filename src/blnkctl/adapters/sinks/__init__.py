"""The places that keys are delivered to, one module a kind: `env_file.py`, `command.py`; `factory.py` opens them."""
