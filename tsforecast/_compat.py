"""Every semi-private or version-dependent name of scikit-learn that tsforecast uses, imported in one place."""

from __future__ import annotations

from sklearn.base import _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, validate_data

try:  # scikit-learn >= 1.9
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn before 1.9, where no callback exists that could be set."""

        def set_callbacks(self, *callbacks):
            """Refuse callbacks with the version that brings them.

            Parameters
            ----------
            *callbacks : object
                Accepted only when empty.

            Returns
            -------
            self : estimator
            """
            if callbacks:
                raise ImportError("callbacks need scikit-learn >= 1.9 (module sklearn.callback); please upgrade it")
            return self

        def _init_callback_context(self, **_kwargs):
            return _NoCallbackContext()


class _NoCallbackContext:
    """A callback context that does nothing and never asks to stop."""

    def subcontext(self, **_kwargs):
        return self

    def call_on_fit_task_begin(self, **_kwargs):
        return self

    def call_on_fit_task_end(self, **_kwargs):
        return False


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "validate_data",
]
