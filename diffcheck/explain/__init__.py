"""A failed comparison as a finding, with the mistake by name."""
