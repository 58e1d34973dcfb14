// Uppy in headless Chromium: the page is reloaded at half, its process crashes at 80 %, and the file goes on each time.
import { createReadStream } from 'node:fs'
import { mkdtemp, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const { ENDPOINT, TOKEN, FILE, CHROMIUM = '/usr/bin/chromium' } = process.env
const here = dirname(fileURLToPath(import.meta.url))
const size = (await stat(FILE)).size
const LIMIT = 120_000

const kinds = { '/page.html': 'text/html', '/page.bundle.js': 'text/javascript' }
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (!kinds[pathname]) return response.writeHead(404).end()
  response.writeHead(200, { 'Content-Type': kinds[pathname] })
  createReadStream(join(here, pathname)).pipe(response)
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const query = new URLSearchParams({ endpoint: ENDPOINT, token: TOKEN })
const url = `http://127.0.0.1:${server.address().port}/page.html?${query}`

const profile = await mkdtemp(join(process.env.STATE ?? tmpdir(), 'chromium-'))
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: CHROMIUM,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--no-proxy-server',
  ],
})

async function choose(page) {
  await page.setInputFiles('#file', FILE)
  return page
}
const passes = (page, share) =>
  page.waitForFunction((bytes) => window.offsets.some((at) => at >= bytes), share * size, { timeout: LIMIT })
// An upload that began anew would have begun below what was acknowledged before.
async function wentOn(page, share) {
  await page.waitForFunction(() => window.offsets.length > 0, null, { timeout: LIMIT })
  const [first] = await page.evaluate(() => window.offsets)
  if (first < share * size) throw new Error(`began anew: first progress at ${first} of ${size}`)
}

let page = await browser.newPage()
await page.goto(url)
await choose(page)
await passes(page, 0.5)
await page.reload()
await choose(page)
await wentOn(page, 0.25)
await passes(page, 0.8)
const devtools = await browser.newCDPSession(page)
const crashed = new Promise((crash) => page.once('crash', crash))
devtools.send('Page.crash').catch(() => {})
await crashed
page = await browser.newPage()
await page.goto(url)
await choose(page)
await wentOn(page, 0.5)
const state = await page.waitForFunction(
  () => /^(done|failed)/.test(document.getElementById('state').textContent) && document.getElementById('state').textContent,
  null,
  { timeout: LIMIT },
)
const [word, ...rest] = (await state.jsonValue()).split(' ')
await browser.close()
server.close()
console.log(rest.join(' '))
process.exit(word === 'done' ? 0 : 1)
