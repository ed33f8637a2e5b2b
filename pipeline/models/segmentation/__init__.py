"""Which category each pixel is, learned from masks."""
