# ganfleet on CPUs:   docker build -f docker/cpu.Dockerfile -t ganfleet:cpu .
#                     docker run --rm --shm-size=1g -v "$PWD":/work ganfleet:cpu train --config quickstart --workers 2
#
# No image has been built of this file. `python docker/steps.py docker/cpu.Dockerfile FOLDER` runs its steps in a fresh
# virtual environment instead, all but those that need root, and a test runs that.
FROM python:3.11-slim-bookworm

# The compiler makes the fast CPU kernels.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir "/src[mpi,metrics]" && rm -rf /src

RUN useradd --create-home --uid 1000 ganfleet && install -d -o ganfleet /work
USER ganfleet
WORKDIR /work
ENV XDG_CACHE_HOME=/work/.cache

# Ends the build here, and not the first run later, where something does not fit.
RUN ganfleet doctor versions limits kernels

ENTRYPOINT ["ganfleet"]
CMD ["doctor"]
