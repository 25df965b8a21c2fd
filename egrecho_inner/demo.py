#!/usr/bin/env python3
"""`egrecho demo`: a page on this machine where one speaks, or drops a file, and reads what a model makes of it.

    egrecho demo exp/mine/full/final
    egrecho demo openai/whisper-small --decode.language vi --port 8000

Nothing is kept and nothing leaves the machine. Needs the extra `serve`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import Port, PositiveFloat
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import extra_missing

logger = logging.getLogger(__name__)


def demo(
    model: str,
    host: str = "127.0.0.1",
    port: Port = 5554,
    open: bool = False,
    longest: PositiveFloat = 600.0,
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> None:
    """Serve a page that transcribes with one model.

    Args:
        model: Model folder or hub id. An adapter is to be merged first (egrecho merge-lora-whisper).
        host: Address to listen on.
        port: To listen on.
        open: Let in everyone who reaches the port; without it only this machine is let in.
        longest: Seconds of a recording at most.
        decode: How to search.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
    """
    try:
        import uvicorn  # an extra

        from egrecho_inner.serve.demo import Demo, make_demo
    except ImportError as error:
        raise extra_missing(error.name or "fastapi", "serve") from error
    from egrecho_inner.decoding.resumable import Decoder, choose_place
    from egrecho_inner.serve.auth import Gate
    from egrecho_inner.serve.options import Settings

    settings = Settings(work=Path.cwd(), host=host, port=port, open=open)
    Gate(settings)  # refuses other hosts without --open before the model is loaded
    transcriber = Decoder(model, decode, choose_place(device, dtype)).transcriber
    app = make_demo(Demo(transcriber, Path(model).name if Path(model).is_dir() else model, longest), settings)
    logger.info("http://%s:%d/ transcribes with %s; Ctrl-C ends it", host, port, model)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)


demo.positional = ["model"]

if __name__ == "__main__":
    run(demo)
