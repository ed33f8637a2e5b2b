"""Text encoders, and the embeddings of category names."""
