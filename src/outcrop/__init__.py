"""Outcrop: an open stack from silicon to service.

The rooms, from the foundation up: ``base``, ``trust``, ``models``, ``training``, ``inference``,
``service`` and ``cli``. ``docs/structure.md`` says what each is for and which way imports run.
"""

__version__ = "0.1.0"
