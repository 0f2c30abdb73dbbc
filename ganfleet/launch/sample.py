"""What msrun and mpiexec start, for one share of the images each: msrun … launch/sample.py --checkpoint P …"""

from ganfleet.cli import forget_folder, run
from ganfleet.cli.sample import command

forget_folder(__file__)
run(command)
