"""What each account may use of each model, and in which order those who wait get it.

``Gate.request`` counts a request before any work is done for it; its ``Ticket`` reserves tokens once the prompt is
known (input and the most that may be generated), waits for a turn fair to all accounts, and is settled at the end with
what was really used. Refusals come before the engine is asked: 429 for what an account used up, 503 for a full house.

Not covered: fairness inside one step of the engine, which prefills in order of arrival; limits across several
processes, each of which counts for itself; requests that name no model.
"""

from outcrop.service.admission.base import GateConfig, Quota, QuotaSource
from outcrop.service.admission.gate import Gate, Ticket, Visit
from outcrop.service.admission.quotas import QuotaStore

__all__ = ["Gate", "GateConfig", "Quota", "QuotaSource", "QuotaStore", "Ticket", "Visit"]
