"""The backends that every numerical test runs on."""

import importlib.util

import pytest

from tsforecast.backends.base import get_backend

CPU_EXISTS = importlib.util.find_spec("tsforecast.backends.cpu.backend") is not None


@pytest.fixture(
    params=[
        "reference",
        pytest.param(
            "cpu", marks=[pytest.mark.needs_jit, pytest.mark.skipif(not CPU_EXISTS, reason="no cpu backend yet")]
        ),
    ]
)
def backend(request):
    """Each backend in turn; all of them in float64 here unless a test says otherwise."""
    return get_backend(request.param)
