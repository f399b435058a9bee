"""What every test may use."""

import pytest
from hypothesis import HealthCheck, settings

from support.daemon import kill_all_daemons

# In a fresh clone the first text takes long: Hypothesis makes its table of all characters then. And on a busy machine
# any example may.
settings.register_profile("masqmail", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("masqmail")


@pytest.hookimpl(trylast=True)  # after the fixtures of a run that was interrupted
def pytest_sessionfinish() -> None:
    """In each process that has run tests, at the end."""
    kill_all_daemons()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The program runs on asyncio alone."""
    return "asyncio"
