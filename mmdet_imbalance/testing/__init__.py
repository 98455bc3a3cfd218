"""Helpers for those who test a loss or a head of their own."""
