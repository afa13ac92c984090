"""The parts of ``bench/gateway.py``: servers in processes of their own, and the client that measures them."""
