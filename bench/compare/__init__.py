"""Two results, one verdict."""
