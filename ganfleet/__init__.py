"""Train GANs over a fleet of cards, with the same bits for any number of them."""

import os

# MindSpore reads this once, when it is first imported. Without it, Conv2d falls to oneDNN's
# reference kernel on AVX-512 machines, 40 to 60 times slower. No effect on Ascend.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

__version__ = "0.1.0"
