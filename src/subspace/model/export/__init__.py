"""Export of models to other libraries."""
