"""Model invocation logging: what an account's calls said and were answered, written into a bucket of its own.

``Invocations.begin`` watches one call for an account that configured it (off otherwise); ``record`` makes the
documented record of it; ``Delivery`` writes records in batches, off the request's path; ``log_files`` and
``records_in`` read them back.

Logged are the four operations that AWS logs (Converse, ConverseStream, InvokeModel with and without a stream), and,
unlike there, the Anthropic and OpenAI surfaces: otherwise whoever may invoke could step around the log by choosing
another path. Calls are logged once they were allowed; what they failed with is in ``errorCode``.

Not covered: SageMaker's InvokeEndpoint and CountTokens; CloudWatch Logs; calls that were denied, which the audit trail
has. Records wait in memory until they are written: a crash loses them, at most those of the last seconds, and so does a
bucket or key that stays unusable until the room for them is full. Both the log and the audit trail say how many.
"""

from outcrop.service.invocations.delivery import Delivery, DeliveryLimits
from outcrop.service.invocations.observe import Invocations, Recording
from outcrop.service.invocations.read import log_files, records_in
from outcrop.service.invocations.record import Invocation, OutputForm, layout

__all__ = [
    "Delivery",
    "DeliveryLimits",
    "Invocation",
    "Invocations",
    "OutputForm",
    "Recording",
    "layout",
    "log_files",
    "records_in",
]
