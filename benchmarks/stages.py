"""CPU seconds until each phase of a StyleGAN's last stage has run once, most of them compilation, and once more.

    python benchmarks/stages.py RESOLUTION …

The networks are as narrow as can be: graphs do not grow with channels. CPU seconds hardly see what else the machine
does.
"""

import sys
import time

import numpy as np

from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.tensors import scalar, tensors
from ganfleet.fleet import cpu
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.stylegan.strategy import StyleGAN

BATCH = 4
NARROW = {"latent": 8, "mapping_layers": 1, "fmap_base": 1024, "fmap_max": 8}


def main(resolutions: list[int]) -> None:
    cpu.pin(1, 0)
    for resolution in resolutions:
        strategy = StyleGAN(StyleGAN.Options(resolution=resolution, **NARROW), ImageSpec(channels=1), BATCH)
        stage = strategy.schedule()[-1]
        clock, program = Clock(10**9, nimg=stage.starts_at), Program(strategy, stage, 0)
        rng = np.random.default_rng(0)
        real = {"image": rng.standard_normal((BATCH, 1, resolution, resolution), dtype=np.float32)}
        for phase in program.phases:
            player, seconds = phase.player, []
            for _ in range(2):
                start = time.process_time()
                noise = strategy.draw(rng, BATCH, clock)
                flat, _ = phase.run(tensors(real), tensors(noise))
                player.update(flat, scalar(1.0), strategy.hyper(player.name, clock))
                if player.ema is not None:
                    player.average(0.9)
                player.tensors()  # waits for the update
                seconds.append(time.process_time() - start)
            print(f"{resolution:4}² {phase.name}: {seconds[0]:6.1f} s, then {seconds[1]:6.2f} s", flush=True)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
