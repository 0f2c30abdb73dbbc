"""Diffusion models: the arithmetic of noise, U-Nets, and how images are drawn in many steps."""
