"""AWS CloudTrail: the record of what was asked and answered."""
