"""aiotus: its creation and its core. It keeps no URLs, so this file does; and it cannot join a Location that is a path."""

import asyncio
import os
import pathlib

import aiohttp
import yarl
from aiotus import core, creation

ENDPOINT = yarl.URL(os.environ["ENDPOINT"])
HEADERS = {"Authorization": "Bearer " + os.environ["TOKEN"]}


async def main():
    remembered = pathlib.Path(os.environ["STATE"], "url")
    chunk = int(os.environ.get("CHUNK") or 4 << 20)
    async with aiohttp.ClientSession() as session:
        with open(os.environ["FILE"], "rb") as file:
            if remembered.exists():
                url = yarl.URL(remembered.read_text())
            else:
                metadata = {"filename": b"clip.mp4"}
                url = ENDPOINT.join(await creation.create(session, ENDPOINT, file, metadata, headers=HEADERS))
                remembered.write_text(str(url))
            await core.upload_buffer(session, url, file, chunksize=chunk, headers=HEADERS)
    print(url)


asyncio.run(main())
