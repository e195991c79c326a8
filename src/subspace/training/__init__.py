"""Training by gradient descent, from the closed-form start; run by Lightning."""
