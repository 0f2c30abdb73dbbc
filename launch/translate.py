"""What msrun and mpiexec start, for one share of the files each: msrun … launch/translate.py --checkpoint P …"""

from ganfleet.cli import run
from ganfleet.cli.translate import command

run(command)
