"""Side-by-side tables on a retrieval set: protocols, and mixes of recency and importance."""
