"""What MindSpore's own Ascend back end makes of a strategy's graphs, found out on a machine without a card.

The wheel for Linux holds the whole Ascend plug-in, and only CANN's libraries are missing. With stubs in their place
(``stubs``) and MindSpore's dry run, a process (``child``) compiles every graph of a stage, and the lines of MindSpore's
C++ code say which kernel each operator got (``lines``). ``check`` judges them.
"""
