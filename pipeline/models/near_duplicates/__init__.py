"""Images of one physical object: copies, exposures, crops, mirrored and slightly moved shots."""
