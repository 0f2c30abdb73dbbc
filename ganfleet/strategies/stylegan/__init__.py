"""Progressive growing: StyleGAN (arXiv:1812.04948) and, as a variant, ProGAN (arXiv:1710.10196)."""
