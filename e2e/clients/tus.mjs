// tus-js-client on Node, over tus 1.0 or one of its two drafts of resumable uploads for HTTP.
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { FileUrlStorage, Upload } from 'tus-js-client'

const { ENDPOINT, TOKEN, FILE, STATE, PROTOCOL = 'tus-v1', CHUNK } = process.env

const upload = new Upload(createReadStream(FILE), {
  endpoint: ENDPOINT,
  protocol: PROTOCOL,
  headers: { Authorization: `Bearer ${TOKEN}` },
  metadata: { filename: 'clip.mp4', filetype: 'video/mp4' },
  chunkSize: CHUNK ? Number(CHUNK) : Infinity,
  retryDelays: [200, 500, 1000, 2000, 4000, 4000],
  urlStorage: new FileUrlStorage(join(STATE, 'urls.json')),
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess: () => {
    console.log(upload.url)
    process.exit(0)
  },
})

const [previous] = await upload.findPreviousUploads()
if (previous) upload.resumeFromPreviousUpload(previous)
upload.start()
