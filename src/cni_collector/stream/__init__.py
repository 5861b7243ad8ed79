"""Joins the two: bytes become events, and identity says whose they are."""
