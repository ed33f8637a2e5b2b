"""What finders say of an image becomes one set of labels, each with a probability."""
