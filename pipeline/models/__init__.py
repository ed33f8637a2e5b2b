"""The only package that imports torch: networks, their weights, and their training."""
