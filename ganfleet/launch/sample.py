"""What msrun and mpiexec start, for one share of the images each: msrun … launch/sample.py --checkpoint P …"""

from ganfleet.cli import run
from ganfleet.cli.sample import command

run(command)
