"""The main job in one go: a mock with a running batch, cancelled through the installed package."""

import json

import mixpeek_batches
from mixpeek_batches import Client, TaskStatus
from mixpeek_batches.mock import MockServer


def main() -> None:
    """Run the demonstration; raises AssertionError if it does not work."""
    with MockServer() as mock:
        mock.add_batch(
            "bkt_products",
            "btch_123",
            status="IN_PROGRESS",
            inputs=["obj_1", "obj_2", {"object_id": "obj_3"}],
            outputs=["doc_1"],
            additional_data={"job_id": "job_42", "object_count": 3},
        )
        running = mock.batch("bkt_products", "btch_123").status
        print(f"mixpeek-batches {mixpeek_batches.__version__}, a mock at {mock.url}, btch_123 is {running}")
        print('Client(...).cancel_batch("bkt_products", "btch_123") returns')
        with Client(api_key=mock.api_key, base_url=mock.url) as client:
            task = client.cancel_batch("bkt_products", "btch_123")
        print(json.dumps(task.to_dict(), indent=2))
        assert task.status is TaskStatus.CANCELED
        assert mock.batch("bkt_products", "btch_123").status is TaskStatus.CANCELED


if __name__ == "__main__":
    main()
