"""What ganfleet races against: the same networks, losses and optimizers in PyTorch, as one would write them there.

Parameters have the names that ganfleet gives them, so weights are copied by name. ``race.py`` asserts that both sides
have equal losses, gradients and updates before it measures anything.
"""
