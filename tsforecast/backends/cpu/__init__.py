"""The network as Numba kernels for the CPU: explicit lanes, own mathematics, one order of additions for any n_jobs."""
