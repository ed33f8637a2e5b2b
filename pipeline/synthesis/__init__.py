"""A drawn zipper product with seven kinds of defect, in MVTec's layout: the default data."""
