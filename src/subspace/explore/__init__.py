"""Serves a local page: a query ranked under two weightings side by side, and maps of the blocks."""
