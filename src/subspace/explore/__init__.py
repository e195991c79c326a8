"""A local page: the same query under other weights, side by side, and what the blocks hold."""
