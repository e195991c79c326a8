"""Side-by-side tables on a user's own texts: what the command `subspace bench` runs."""
