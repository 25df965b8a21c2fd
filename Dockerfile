# egrecho with a GPU: torch's wheel brings CUDA, the driver is the host's.
#
#   docker build -t egrecho .
#   docker run --gpus all --shm-size 8g -v "$PWD/data:/recipe/data" -v "$PWD/exp:/recipe/exp" egrecho bash prepare.sh --help
FROM python:3.12.11-slim-bookworm

# g++: DeepSpeed and torch.compile build their kernels when they are first used
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /build
# torch alone first: the layer stays while the code changes
COPY requirements.txt ./
RUN grep -o '^torch==[0-9.]*' requirements.txt > torch.txt \
    && pip install --no-cache-dir -r torch.txt \
    && pip install --no-cache-dir -r requirements.txt
COPY . .
ENV DS_BUILD_OPS=0
RUN pip install --no-cache-dir ".[deepspeed,hub,web,watch]"

RUN useradd --create-home --uid 1000 egrecho \
    && egrecho init /recipe \
    && mkdir -p /recipe/data /recipe/exp \
    && chown -R egrecho /recipe \
    && rm -rf /build/*
ENV OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false PYTHONUTF8=1
USER egrecho
WORKDIR /recipe
CMD ["egrecho", "doctor"]
