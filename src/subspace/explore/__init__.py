"""A local web page that ranks a query under two tables of weights, and draws maps of the blocks."""
