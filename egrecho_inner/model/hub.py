"""The model hub: whether it answers, asked once and for seconds, where the libraries try every file for minutes.

In: nothing. Out: why it does not answer, and then the libraries look into their cache alone.
"""

import os
import ssl
from functools import lru_cache
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants

SECONDS = 5
"""To connect; a mirror behind a slow line needs less than one."""


@lru_cache
def why_unreachable() -> str:
    """Return why the hub cannot be asked, an empty string where it can."""
    if constants.is_offline_mode():
        return "the hub is switched off (HF_HUB_OFFLINE)"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
        return ""
    except HTTPError:  # an answer, if not a friendly one
        return ""
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):  # the hub's client has certificates of its own
            return ""
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"  # of the processes that this one starts
    return f"{constants.ENDPOINT} does not answer ({reason})"
