"""Who sent a request, and the proof of it. This room knows no tensors and never imports the model half.

``crypto`` is the one place that touches hash, signature and certificate libraries. ``identity`` keeps accounts and
access keys and turns a request into a ``Principal``. What a principal may do (policy) and the record of what it did
(audit) come in later issues: today every authenticated principal is its account's root.
"""
