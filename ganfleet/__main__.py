"""``python -m ganfleet``, and what ``ganfleet train --workers`` starts by this file's name."""

import os
import sys

if __name__ == "__main__":
    # Python puts the working directory first, or this folder. As with the installed command, a queue.py that lies there
    # must not be taken for the standard library's, nor ganfleet's own modules for the user's.
    unwanted = (os.getcwd(), os.path.dirname(os.path.realpath(__file__)))
    if not getattr(sys.flags, "safe_path", False) and os.path.realpath(sys.path[0]) in unwanted:
        del sys.path[0]
    from ganfleet.cli import main

    main(prog_name="ganfleet")
