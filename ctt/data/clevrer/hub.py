"""What a hub of huggingface.co's kind says of a file, asked with the library huggingface_hub: where it is, its sha256, who may."""

from __future__ import annotations

import os
import re
import urllib.error
from email.message import Message
from typing import NamedTuple

from ctt.core.errors import DataError


class HubFile(NamedTuple):
    """The address to get it from, its sha256 if the hub states one (of large files it does), and a token for the hub alone."""

    url: str
    sha256: str | None
    token: str | None


def ask(name: str, hub: str, timeout: float) -> HubFile:
    """What `hub` says of OWNER/REPOSITORY/FILE[@REVISION].

    Raises DataError if `name` is none, HTTPError where the hub refuses, URLError where it can't be reached.
    """
    named = re.fullmatch(r"([^/@\s]+/[^/@\s]+)/([^@\s]+)(?:@([^@\s]+))?", name)
    if named is None:
        raise DataError(f"{name!r} (data.fetch) is neither an address nor OWNER/REPOSITORY/FILE or …@REVISION of {hub}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(named[1], named[2], revision=named[3] or "main", endpoint=hub.rstrip("/"))
    token = get_token()
    try:
        said = get_hf_file_metadata(url, token=token or False, timeout=timeout, endpoint=hub.rstrip("/"))
    except HfHubHTTPError as error:
        raise urllib.error.HTTPError(
            url, error.response.status_code, error.response.reason_phrase, Message(), None
        ) from None
    except Exception as error:  # the library's HTTP client is not the same from one release to the next
        raise urllib.error.URLError(str(error) or type(error).__name__) from None
    stated = said.etag or ""
    return HubFile(url, stated if re.fullmatch(r"[0-9a-f]{64}", stated) else None, token)
