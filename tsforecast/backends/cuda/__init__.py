"""Numba CUDA kernels for one NVIDIA GPU, in float32. Nothing outside this package imports it before it is asked for."""
