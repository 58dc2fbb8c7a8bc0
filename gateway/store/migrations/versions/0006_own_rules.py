"""What the gateway itself asks is a kind of its own: a rule that a sled worded allows nothing of it.

Until now both were one name space of words. Which rule came from whom can no longer be told, so all become the sleds':
the next push is asked about again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("rules") as rules:
        rules.add_column(sa.Column("own", sa.Boolean(), server_default="0", nullable=False))
        rules.drop_constraint("uq_rules_session_id_rule", type_="unique")
        rules.create_unique_constraint("uq_rules_session_id_own_rule", ["session_id", "own", "rule"])
