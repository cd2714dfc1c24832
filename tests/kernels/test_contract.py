"""Every backend offers the methods of the protocol, with its argument names in its order."""

import inspect

import pytest

from tsforecast.backends.base import Backend, get_backend

METHODS = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and not name.startswith("_")]


def test_protocol_is_narrow():
    assert sorted(METHODS) == ["evaluate", "gradient", "predict", "train_epoch"]


@pytest.mark.parametrize("method", METHODS)
def test_methods_have_the_arguments_of_the_protocol(backend, method):
    expected = list(inspect.signature(getattr(Backend, method)).parameters)
    assert list(inspect.signature(getattr(type(backend), method)).parameters) == expected


def test_backends_know_their_name(backend):
    assert get_backend(backend.name).name == backend.name


def test_unknown_backend_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown backend 'tpu'; known: 'auto', 'cpu', 'cuda', 'reference'"):
        get_backend("tpu")
