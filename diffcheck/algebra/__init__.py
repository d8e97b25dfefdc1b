"""Expressions: the graph that shadows hold, its elementary functions and constants."""
