"""Checkpoints for other libraries."""
