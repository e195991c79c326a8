"""The usage log, recency and importance computed from it, and bandits that choose weights."""
