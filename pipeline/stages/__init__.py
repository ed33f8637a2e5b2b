"""One command in each file. Only `run` and `label` call other stages."""
