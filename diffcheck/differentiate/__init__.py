"""What PyTorch computes, in every mode. Knows nothing of the oracle."""
