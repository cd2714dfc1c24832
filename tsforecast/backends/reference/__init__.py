"""NumPy in float64: the mathematics as it is on paper, and the oracle that other backends are tested against."""
