"""Bytes by key: the places where a repository can live, behind one small protocol."""
