"""Coefficients of the activations, for kernels and their NumPy twin; see ``backends.cpu.activations`` for the maths.

``POLYNOMIAL[dtype]`` holds q with f q(f) = 2^f - 1 for |f| <= 1/2, of least relative error, constant first; beyond
``TANH_CLAMP[dtype]`` tanh rounds to 1, and within ``EXP_CLAMP[dtype]`` exp is neither infinite nor subnormal; a float
has ``MANTISSA_BITS[dtype]`` explicit bits of mantissa.
"""

import math

LOG2_E = 1.0 / math.log(2.0)
TANH_CLAMP = {"float32": 9.2, "float64": 20.0}
EXP_CLAMP = {"float32": 86.0, "float64": 707.0}
MANTISSA_BITS = {"float32": 23, "float64": 52}
POLYNOMIAL = {
    "float32": (
        0.69314718792669306, 0.24022649794962265, 0.055503574336426599, 0.0096182374949070143,
        0.0013390735477607874, 0.00015403512367553546,
    ),
    "float64": (
        0.69314718055994531120, 0.24022650695910097888, 0.055504108664821236534, 0.0096181291076070656693,
        0.0013333558146531632859, 0.00015403530441480679921, 0.000015252733701214656492, 1.321544272423112757e-6,
        1.0178121299165704425e-7, 7.0725617019303205134e-9, 4.4455372281544427333e-10,
    ),
}  # fmt: skip


def clamp_of(dtype: str, slope: float) -> float:
    """Largest |x| that is told apart in 2^(slope x): 2 log2(e) is the slope of tanh, log2(e) that of the sigmoid."""
    return TANH_CLAMP[dtype] * 2.0 * LOG2_E / abs(slope)
