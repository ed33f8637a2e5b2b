"""The same work on every item, in this process, in several, or on a cluster."""
