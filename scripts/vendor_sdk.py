"""Let the vendor's own SDK cancel a batch on the mock: another client's word that the mock speaks the API.

Usage: python scripts/vendor_sdk.py (the SDK is installed into build/vendor the first time; not part of `make test`)
"""

import json
import subprocess
import sys
import venv
from pathlib import Path

from mixpeek_batches.mock import MockServer

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "build" / "vendor"
PYTHON = ENVIRONMENT / "bin" / "python"
SDK = "mixpeek==1.3.783"
CALL = """
import json, sys
from importlib.metadata import version
from mixpeek import ApiClient, BucketBatchesApi, Configuration

url, key = sys.argv[1:]
configuration = Configuration(host=url, access_token=key)
with ApiClient(configuration, header_name="Authorization", header_value=f"Bearer {key}") as client:
    task = BucketBatchesApi(client).cancel_batch_buckets_batches("bkt_products", "btch_123")
print(json.dumps({"sdk": version("mixpeek"), "got": task.to_dict()}, default=str, indent=2))
"""


def main() -> None:
    """Install the SDK if it is not there, cancel, and print what it made of the answer."""
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", SDK], check=True, stderr=subprocess.DEVNULL)
    with MockServer() as mock:
        mock.add_batch("bkt_products", "btch_123", status="PROCESSING", inputs=["obj_1", {"object_id": "obj_2"}])
        done = subprocess.run(
            [PYTHON, "-c", CALL, mock.url, mock.api_key], check=False, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            sys.exit(f"The SDK failed:\n{done.stderr}")
        print(done.stdout, end="")
        got = json.loads(done.stdout)["got"]
        batch = mock.batch("bkt_products", "btch_123")
        assert (got["task_id"], got["status"], batch.status.value) == (batch.task_id, "CANCELED", "CANCELED")


if __name__ == "__main__":
    main()
