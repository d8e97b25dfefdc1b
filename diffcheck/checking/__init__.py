"""One case as results: the steps of a check in order."""
