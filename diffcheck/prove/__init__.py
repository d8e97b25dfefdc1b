"""Identities for every input of a path: what was executed equals the reference."""
