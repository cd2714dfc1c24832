"""Errors that the package raises; every message names the object, the place and the fix."""


class TsForecastError(Exception):
    """Base class of all errors raised by tsforecast."""


class DataError(TsForecastError, ValueError):
    """Input values, shapes or time stamps that cannot be used; nothing has been changed."""


class NotEnoughHistoryError(DataError):
    """A series (or frame) has too few rows for one window."""


class ModelFileError(TsForecastError, ValueError):
    """A model file is damaged, from an unknown version, or not a model file."""


class BackendUnavailableError(TsForecastError, RuntimeError):
    """The requested device or backend cannot be used on this machine."""


class GradientHealthWarning(UserWarning):
    """The gradient of the loss vanishes or explodes on its way back through the steps of a window."""


class DivergedError(TsForecastError, ArithmeticError):
    """Training met a non-finite loss; the weights of the last finite epoch are kept."""
