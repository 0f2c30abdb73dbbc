"""Text to image by way of an embedding of images, DALL·E 2 (arXiv:2204.06125)."""
