"""Certified values, bounds of what rounding can do, and the judgement on numbers."""
