"""What msrun and mpiexec start, for one share of the files each: msrun … launch/translate.py --checkpoint P …"""

from ganfleet.cli import forget_folder, run
from ganfleet.cli.translate import command

forget_folder(__file__)
run(command)
