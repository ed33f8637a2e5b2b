"""What a user can choose, and how it is read."""
