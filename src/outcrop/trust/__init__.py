"""Who sent a request, whether they may, and what happened. This room knows no tensors.

``crypto`` is the one place that touches cipher, hash, signature and certificate libraries. ``policy`` decides, from
compiled policies alone. ``identity`` keeps accounts, users, roles, credentials and sessions, and turns a request into a
``Principal``. ``keys`` keeps customer-managed keys and the vault for what a tenant owns. ``audit`` keeps the record of
what was done. The last three do not know each other; the service composes them.
"""
