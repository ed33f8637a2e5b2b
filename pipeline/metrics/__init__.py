"""How good a result is, each figure with a published definition."""
