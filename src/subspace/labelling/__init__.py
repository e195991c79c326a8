"""Labelling: labels for texts that nobody labelled, each marked with where it comes from."""
