"""What msrun and mpiexec start: msrun --worker_num=8 --local_worker_num=8 --join=True launch/train.py --config F"""

from ganfleet.cli import run
from ganfleet.cli.train import command

run(command)
