"""What runs networks: one package a backend, with the same file names in each, behind ``base.Backend``."""
