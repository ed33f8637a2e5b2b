"""A bucket of its own for each test, on one server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import KEY_ID, SECRET, Bucket, Spoiled, no_fault, serving_buckets
from small import draw_product

from pipeline import errors
from pipeline.io.remote import retry
from pipeline.io.remote.addresses import forget_addresses

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, Spoiled]]:
    with serving_buckets() as served:
        yield served


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the cache; addresses of other tests are forgotten. Pauses are short."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("PIPELINE_CACHE", str(cache))
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(errors, "_addresses", {})
    forget_addresses()
    yield cache
    forget_addresses()


@pytest.fixture
def bucket(
    server: tuple[str, Spoiled], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """An empty bucket; the credentials are in the environment."""
    import boto3

    endpoint, spoiled = server
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    made = Bucket(f"photos{next(_numbers)}", endpoint, spoiled, client)
    client.create_bucket(Bucket=made.name)
    spoiled.requests.clear()
    yield made
    spoiled.fault = no_fault
    client.close()


@pytest.fixture
def product(bucket: Bucket, tmp_path: Path) -> Path:
    """A product of 12 images, which also lies in the bucket as `widget`."""
    made = draw_product(tmp_path / "widget")
    bucket.put(made, "widget")
    return made
