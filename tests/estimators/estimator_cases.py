"""Helpers of the estimator tests."""


def same_bits(a, b):
    """Two fitted models hold the same weights, to the last bit."""
    return a._params.tobytes() == b._params.tobytes()
