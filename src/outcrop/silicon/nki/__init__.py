"""The public kernel language on the simulated device, under the vendor's names and signatures."""

from __future__ import annotations
