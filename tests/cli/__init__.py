import pytest

pytest.register_assert_rewrite("tests.cli.pinned", "tests.cli.stage")
