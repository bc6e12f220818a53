"""Metadata of a file on a Hugging Face hub, through the library huggingface_hub: its address, sha256 and access token."""

from __future__ import annotations

import os
import re
import urllib.error
from email.message import Message
from typing import NamedTuple

from ctt.core.errors import DataError


class HubFile(NamedTuple):
    """The download address, the sha256 if the hub states one (it does for large files), and a token for the hub only."""

    url: str
    sha256: str | None
    token: str | None


def file_metadata(name: str, hub: str, timeout: float) -> HubFile:
    """The metadata of OWNER/REPOSITORY/FILE[@REVISION] on `hub`.

    Raises DataError if `name` has another form, HTTPError if the hub refuses, URLError if it can't be reached.
    """
    named = re.fullmatch(r"([^/@\s]+/[^/@\s]+)/([^@\s]+)(?:@([^@\s]+))?", name)
    if named is None:
        raise DataError(f"{name!r} (data.fetch) is neither an address nor OWNER/REPOSITORY/FILE[@REVISION] on {hub}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(named[1], named[2], revision=named[3] or "main", endpoint=hub.rstrip("/"))
    token = get_token()
    try:
        metadata = get_hf_file_metadata(url, token=token or False, timeout=timeout, endpoint=hub.rstrip("/"))
    except HfHubHTTPError as error:
        raise urllib.error.HTTPError(url, error.response.status_code, error.response.reason_phrase, Message(), None) from None
    except Exception as error:  # the library's HTTP client differs between releases
        raise urllib.error.URLError(str(error) or type(error).__name__) from None
    stated = metadata.etag or ""
    return HubFile(url, stated if re.fullmatch(r"[0-9a-f]{64}", stated) else None, token)
