"""Evidence by test run: the tests behind chosen controls are run, and what came of them is written down and signed.

``run_tests`` runs pytest in a source checkout and ``Statement`` says what came of each control, with the commit, the
machine and the packages. ``EvidenceFile`` signs and checks it; ``oscal`` writes the same as an OSCAL component
definition. Not covered: that the signer did not make it up. Evidence is as good as the machine and the person that ran
it; what it gives is that anyone can run it again.
"""

from __future__ import annotations

from outcrop.assurance.evidence.checkout import Checkout
from outcrop.assurance.evidence.run import Execution, run_tests
from outcrop.assurance.evidence.signed import EvidenceFile, evidence_key
from outcrop.assurance.evidence.statement import ControlResult, Statement

__all__ = ["Checkout", "ControlResult", "EvidenceFile", "Execution", "Statement", "evidence_key", "run_tests"]
