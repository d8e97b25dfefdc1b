"""The audit: every differentiable operator of PyTorch's own database, judged on its sample inputs."""
