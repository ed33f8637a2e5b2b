"""One category for a whole image."""
