"""AWS Security Token Service: temporary credentials, and who one is.

``handlers`` has the operations, ``parameters`` checks what a new session is asked to be, ``grants`` decides whether a
role may be assumed.
"""
