"""Category names as vectors."""
