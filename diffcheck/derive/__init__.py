"""The reference: SymPy's derivatives by the chain rule, and formulas as text."""
