"""The default data: drawn zippers with seven defects, as a product folder in MVTec's layout."""
