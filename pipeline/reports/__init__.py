"""Pages and tables that several stages write."""
