"""Published weights by name, URL and sha256."""
