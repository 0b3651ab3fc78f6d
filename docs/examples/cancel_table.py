"""Cancel the batches of a database table. Run it again to continue."""

import sqlite3
import sys
from contextlib import closing

from mixpeek_batches import Client

REMAINING = "SELECT bucket, batch FROM batches WHERE NOT canceled"
UPDATE = "UPDATE batches SET canceled = ?, error = ? WHERE bucket = ? AND batch = ?"


def main(path: str) -> None:
    """Cancel what is not cancelled yet, and store each result."""
    with closing(sqlite3.connect(path)) as database, Client(max_retries=5) as client:
        pairs: list[tuple[str, str]] = database.execute(REMAINING).fetchall()
        canceled = 0
        for number, result in enumerate(client.cancel_batches(pairs), start=1):
            error = None if result.error is None else str(result.error)
            with database:  # commits
                row = result.canceled, error, result.bucket_identifier, result.batch_id
                database.execute(UPDATE, row)
            canceled += result.canceled
            if number % 100 == 0 or number == len(pairs):
                print(f"{number} of {len(pairs)}: {canceled} cancelled")


if __name__ == "__main__":
    main(sys.argv[1])
