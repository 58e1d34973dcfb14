"""tuspy, with its own storage of upload URLs."""

import os
import sys

from tusclient import client
from tusclient.storage.filestorage import FileStorage

storage = FileStorage(os.path.join(os.environ["STATE"], "urls.json"))
phone = client.TusClient(os.environ["ENDPOINT"])
phone.set_headers({"Authorization": "Bearer " + os.environ["TOKEN"]})
uploader = phone.uploader(
    os.environ["FILE"],
    chunk_size=int(os.environ.get("CHUNK") or sys.maxsize),
    metadata={"filename": "clip.mp4"},
    store_url=True,
    url_storage=storage,
    retries=5,
    retry_delay=1,
)
uploader.upload()
print(uploader.url)
