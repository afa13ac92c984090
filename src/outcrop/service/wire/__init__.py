"""The AWS wire: service models turned into typed codecs, event streams, error shapes and a raw-path router.

``router`` names the operation, ``codec`` reads its input and writes its output, ``errors`` and ``eventstream`` do the
same for what goes wrong and what is streamed. ``generated/`` is written by ``tools/generate_wire.py`` from the list in
``built``. Nothing here knows accounts, models or tensors. This file imports nothing, so that the generator can read
``built`` before any generated file exists.
"""
