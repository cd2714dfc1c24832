"""The network as Numba kernels for the CPU: explicit lanes, own mathematics, the same bits for any number of threads."""
