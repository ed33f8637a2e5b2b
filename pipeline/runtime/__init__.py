"""The process itself: signals, threads, memory, progress."""
