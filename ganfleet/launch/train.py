"""What msrun and mpiexec start: msrun --worker_num=8 --local_worker_num=8 --join=True launch/train.py --config F"""

from ganfleet.cli import forget_folder, run
from ganfleet.cli.train import command

forget_folder(__file__)
run(command)
