"""Machine-learning functions: nearest centres and log cosh."""
