"""Benches that write tables: protocols, mixes of recency and importance, and steering."""
