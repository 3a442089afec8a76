"""The s3fs file system with every wait bounded; the only module that imports s3fs, which is an extra.

A stopped server must not stop us. botocore sends `Expect: 100-continue` with every PUT, and its HTTP client waits for
the answer before its read timer starts; so that header goes. s3fs and botocore each retry five times; here neither
does, as the store retries by itself within one bound.
"""

from __future__ import annotations

import os
from typing import Any, Final

import s3fs  # type: ignore[import-untyped] # s3fs ships no types
from botocore.handlers import add_expect_header  # type: ignore[import-untyped] # botocore ships no types

CONNECT_S_MAX: Final = 2.0
"""How long a connection may take."""
READ_S_MAX: Final = 4.0
"""How long the server may stay silent before or inside an answer."""
CONNECTIONS_MAX: Final = 16
"""How many requests of one process may be under way."""


class BoundedS3FileSystem(s3fs.S3FileSystem):  # type: ignore[misc] # its base has no types
    """s3fs without nested retries, listing caches and unbounded waits."""

    retries = 1  # of the class: attributes of an instance are lost when s3fs copies itself

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:
        """Connect, and take out the handler that makes a PUT to a stopped server wait for ever."""
        client = await super().set_session(refresh, kwargs or {})
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client


def open_filesystem() -> BoundedS3FileSystem:
    """Connect as the standard AWS variables and files say: keys, token, profile, region and endpoint."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return BoundedS3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        max_concurrency=1,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_S_MAX,
            "read_timeout": READ_S_MAX,
            "retries": {"max_attempts": 0},
            "max_pool_connections": CONNECTIONS_MAX,
            "user_agent_extra": "tidegate",
        },
    )
