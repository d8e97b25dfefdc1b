"""One run under shadow memory: what an operation does to expressions."""
