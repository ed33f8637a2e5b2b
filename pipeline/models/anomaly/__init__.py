"""Models that learn from good images alone."""
