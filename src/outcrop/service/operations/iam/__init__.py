"""AWS Identity and Access Management: users, groups, roles, policies, credentials, and the policy simulator.

``handlers`` names the operations; each module has those on one kind of thing, over the identity store. ``asked`` is
one request, ``render`` the store's records as IAM shows them, ``errors`` its refusals as IAM names them.

Not covered: passwords, MFA devices, certificates and SSH keys (their lists are empty), SAML, instance profiles,
service-linked roles, access reports. ``GetAccountSummary`` counts what is not there as none.
"""
