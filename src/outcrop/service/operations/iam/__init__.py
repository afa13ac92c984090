"""AWS Identity and Access Management: users, groups, roles and policies."""
