"""A case at an input: PyTorch's numbers beside certified ones."""
