"""The only room with torch: networks, their weights, and how they are trained."""
