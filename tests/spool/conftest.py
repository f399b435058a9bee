"""The suite that every spool passes explains its failures like a test file."""

import pytest

pytest.register_assert_rewrite("spool.conformance")
