"""Wrappers: when, where and with which numbers another transformation runs."""
