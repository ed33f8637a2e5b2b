"""One verb a file. Stages never import each other; `run` alone calls several."""
