"""What was used when and how well it did: the log, its decay, traces, and the bandit."""
