"""The Matrix transport: rooms, threads, edits and reactions, with end-to-end encryption.

Importing this package does not import the Matrix SDK; running the transport does.
"""

from transports.matrix.config import MatrixConfig
from transports.matrix.transport import MatrixTransport

__all__ = ["MatrixConfig", "MatrixTransport"]
