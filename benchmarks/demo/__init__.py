"""A model behind HTTP, asked row by row: what batching is worth. Run by ``make demo``."""
