"""Inputs that Hypothesis draws from a case's domain."""
