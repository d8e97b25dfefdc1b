"""A normal form for expressions, in which equal ones are recognised."""

from diffcheck.prove.normal_form.forms import NormalForms
from diffcheck.prove.normal_form.polynomials import GiveUp, Piecewise, Polynomial

__all__ = ["GiveUp", "NormalForms", "Piecewise", "Polynomial"]
