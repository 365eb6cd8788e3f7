"""Drivers: loops that run an optimizer until it is done."""
