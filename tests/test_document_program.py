"""The example program runs, and its loss falls as PyTorch's does from the same weights and rows."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tsforecast.estimators import _jobs

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def program():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "document_program.py")))


@pytest.mark.needs_jit
def test_it_prints_a_falling_loss(program, capsys):
    program.main()
    lines = capsys.readouterr().out.splitlines()
    epochs, losses = zip(*((int(line.split()[1]), float(line.split()[3])) for line in lines[:-1]), strict=True)
    assert epochs == (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert losses[0] > 2 * losses[1], "the mean of the targets is learned first"
    # One batch of the last epoch may throw it back; the middle of the later losses does not.
    assert np.median(losses[2:]) < 0.97 * losses[1], "the rows are being learned"
    assert np.median(losses[2:]) < 1 / 12, "the variance of uniform targets"
    assert lines[-1].startswith("100 epochs in ")


@pytest.mark.needs_jit
def test_its_loss_is_that_of_torch(program, monkeypatch):
    golden = np.load(ROOT / "tests" / "golden" / "torch_lstm.npz")
    first_weights = golden["document/params"].astype(np.float32)
    monkeypatch.setattr(_jobs, "init_params", lambda spec, seed, dtype, *_: first_weights.astype(dtype))
    # The seed of the row order in the golden file is 0; the estimator would draw one from random_state.
    monkeypatch.setattr(_jobs, "check_random_state", lambda seed: SimpleNamespace(randint=lambda high: 0))
    model = program.make_model().fit(golden["document/x"].astype(np.float64), golden["document/y"].astype(np.float64))
    np.testing.assert_allclose(model.loss_curve_, golden["document/loss_float32"], rtol=1e-5)
    model.set_params(dtype="float64").fit(golden["document/x"].astype(float), golden["document/y"].astype(float))
    np.testing.assert_allclose(model.loss_curve_, golden["document/loss_float64"], rtol=1e-9)
