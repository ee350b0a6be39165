"""Bytes by key: the places where a repository can live, behind one small protocol."""

from holdfast.store.base import ObjectInfo, Store
from holdfast.store.url import open_store, parse_url

__all__ = ["ObjectInfo", "Store", "open_store", "parse_url"]
