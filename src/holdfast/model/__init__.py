"""Frozen values that every part of Holdfast speaks in: no I/O, no clock, no dependency on any other part."""
