"""From labelled vectors to a model, in closed form: moments, scatter matrices, the solver."""
