# ganfleet on Ascend cards:   docker build -f docker/ascend.Dockerfile -t ganfleet:ascend .
#
# Nobody has built this: no card and no Docker were at hand. The driver is the host's; docs/ascend.md shows the
# `docker run` that hands over cards, driver and npu-smi. Tags of CANN: https://quay.io/repository/ascend/cann?tab=tags,
# as CANN-CARD-SYSTEM-PYTHON: 910b for Atlas A2, a3 for Atlas A3. MINDSPORE must go with CANN: `ganfleet doctor versions`
# and the table in docs/ascend.md.
ARG CANN=9.0.0-910b-ubuntu22.04-py3.11
FROM quay.io/ascend/cann:${CANN}
ARG MINDSPORE=2.9.0

RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# Wheels of an older CANN would be found before those of this one; the second line is what CANN's Python parts import.
RUN pip uninstall -y te topi hccl && \
    pip install --no-cache-dir sympy protobuf attrs cloudpickle decorator ml-dtypes psutil scipy tornado jinja2

COPY . /src
RUN pip install --no-cache-dir "mindspore==${MINDSPORE}" "/src[metrics]" && rm -rf /src

WORKDIR /work
ENV XDG_CACHE_HOME=/work/.cache

# A build has no card: that they are there, `ganfleet doctor` says in the running container.
SHELL ["/bin/bash", "-c"]
ENTRYPOINT ["/bin/bash", "-c", "for each in cann ascend-toolkit; do f=/usr/local/Ascend/$each/set_env.sh; [ -f $f ] && . $f && break; done; exec ganfleet \"$@\"", "ganfleet"]
CMD ["doctor"]
