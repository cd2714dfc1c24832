"""The backends that every numerical test runs on."""

import pytest

from tsforecast.backends.base import get_backend


@pytest.fixture(params=["reference", pytest.param("cpu", marks=pytest.mark.needs_jit)])
def backend(request):
    """Each backend in turn; all of them in float64 here unless a test says otherwise."""
    return get_backend(request.param)
