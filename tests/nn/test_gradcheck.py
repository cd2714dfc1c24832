"""The gradient check itself, on functions whose derivatives are known."""

import numpy as np

from tsforecast.nn.gradcheck import numerical_gradient, relative_error


def test_central_differences_of_a_cubic_are_off_by_the_square_of_the_step():
    at = np.array([[1.0, -2.0], [0.5, 3.0]])
    gradient = numerical_gradient(lambda x: float((x**3).sum()), at, step=1e-2)
    np.testing.assert_allclose(gradient, 3 * at**2 + 1e-4, rtol=1e-11)


def test_relative_error_is_relative_to_the_largest_entry():
    assert relative_error(np.array([4.0, 1.0]), np.array([4.0, 3.0])) == 0.5
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.ones(3), np.zeros(3)) == np.inf
