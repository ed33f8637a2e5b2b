"""How far to trust what models find: measured where a model did not learn."""
