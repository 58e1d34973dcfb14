// A page as an app would have it: Uppy takes a file and uploads it over tus; after a reload the same file goes on.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

const asked = new URLSearchParams(location.search)
const show = (id, what) => Object.assign(document.getElementById(id), what)

const uppy = new Uppy({ autoProceed: true }).use(Tus, {
  endpoint: asked.get('endpoint'),
  headers: { Authorization: `Bearer ${asked.get('token')}` },
  chunkSize: 2 * 1024 * 1024,
  retryDelays: [200, 500, 1000, 2000, 4000, 4000],
})
// What the server has when the upload starts, and how far it is.
window.offsets = []
uppy.on('upload-progress', (_, { bytesUploaded }) => {
  window.offsets.push(bytesUploaded)
  show('progress', { value: uppy.getState().totalProgress })
})
uppy.on('upload-success', (_, { uploadURL }) => show('state', { textContent: `done ${uploadURL}` }))
uppy.on('upload-error', (_, error) => show('state', { textContent: `failed ${error}` }))

document.getElementById('file').addEventListener('change', ({ target }) => {
  const [file] = target.files
  uppy.addFile({ name: file.name, type: file.type, data: file })
})
