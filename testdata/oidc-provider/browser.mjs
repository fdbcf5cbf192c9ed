// A person at Chromium, for the browser tests. Standard input has {url, steps, shots} as JSON: an address to open and
// what to do then, each step being [what, where, value]. Every step waits until it can be done, for 20 s at most; there
// are no pauses. What the person saw is printed as JSON. The world is loopback: nothing else is ever asked for anything.
import { text } from 'node:stream/consumers';
import { chromium } from 'playwright-core';

const { url, steps, shots } = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({ // with a new, empty profile each time
  executablePath: '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1'],
});
const page = await browser.newPage({ viewport: { width: 1000, height: 700 } });
page.setDefaultTimeout(20_000);

const requests = []; // that pages made by themselves
const errors = []; // in the console: scripts that fail, and what a page's own Content-Security-Policy forbids it
page.on('request', (r) => r.isNavigationRequest() || requests.push({ page: r.frame().url(), url: r.url() }));
page.on('console', (m) => m.type() === 'error' && errors.push(`${page.url()}: ${m.text()}`));
page.on('pageerror', (e) => errors.push(`${page.url()}: ${e}`));
// oidc-provider's pages want web fonts: they get an empty style sheet from here.
await page.route((u) => !['localhost', '127.0.0.1', '[::1]'].includes(u.hostname), (r) => r.fulfill({ contentType: 'text/css', body: '' }));

const actions = {
  open: (address) => page.goto(address),
  fill: (where, value) => page.locator(where).fill(value),
  click: (where) => page.locator(where).click(),
  async see(heading) {
    await page.getByRole('heading', { name: heading, exact: true }).waitFor();
    await page.waitForLoadState('load');
  },
  async shoot(name) {
    if (!shots) return;
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [1000, 390]) { // the latter a phone's
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 700 });
        await page.screenshot({ path: `${shots}/${name}-${colorScheme}-${width}.png` });
      }
    }
  },
};

try {
  await page.goto(url);
  for (const [what, ...how] of steps) await actions[what](...how);
  const { entries } = await (await page.context().newCDPSession(page)).send('Page.getNavigationHistory');
  console.log(JSON.stringify({ url: page.url(), text: await page.locator('body').innerText(), history: entries.map((e) => e.url), requests, errors }));
} catch (e) {
  console.error(`${e}\nat ${page.url()}\n${await page.locator('body').innerText().catch(() => '')}\n${errors.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
