"""Thin verbs over the rooms: ``outcrop up``, ``models``, ``key``, ``trust``, ``doctor``, ``explain``."""
