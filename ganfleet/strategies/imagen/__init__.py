"""Text to image by a cascade of diffusion models (arXiv:2205.11487)."""
