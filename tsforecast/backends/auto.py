"""The backend of ``device="auto"`` where there is a GPU: the processor runs what the GPU's backend refuses."""

from __future__ import annotations

from tsforecast.backends.base import Backend, get_backend
from tsforecast.exceptions import BackendUnavailableError


def _first_that_can(method: str):
    """Method that asks the GPU, and the processor if the GPU's backend does not have what is asked for."""

    def run(self, *args, **kwargs):
        try:
            return getattr(self.gpu, method)(*args, **kwargs)
        except BackendUnavailableError:  # raised before anything has changed
            return getattr(self.cpu, method)(*args, **kwargs)

    run.__name__ = method
    return run


class AutoBackend:
    """See ``base.Backend``."""

    name = "auto"

    def __init__(self, gpu: Backend | None = None, cpu: Backend | None = None):
        self.gpu, self.cpu = gpu or get_backend("cuda"), cpu or get_backend("cpu")

    train_epoch = _first_that_can("train_epoch")
    evaluate = _first_that_can("evaluate")
    predict = _first_that_can("predict")
    gradient = _first_that_can("gradient")
