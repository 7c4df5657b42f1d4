// What the scripts of this folder share: Chromium by Playwright, one line for each thing that holds, and the end of a session by silence.
import path from 'node:path';
import {createRequire} from 'node:module';

/** Chromium, and a `require` for the packages that `make test-packages` installs. */
export async function start(packages) {
  const require = createRequire(path.join(packages, 'package.json'));
  const {chromium} = require('playwright-core');
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  return {browser, require};
}

/** Says what holds; ends with 1 where something does not. */
export function holds(condition, what) {
  if (!condition) {
    console.log(`does not hold: ${what}`);
    process.exit(1);
  }
  console.log(`holds: ${what}`);
}

/** A picture of all of a page at a width. */
export async function picture(page, width, file) {
  // Frames are painted where they are within the window, and a little later than the page around them.
  if (await page.$('iframe')) await page.setViewportSize({width, height: await page.evaluate(() => document.documentElement.scrollHeight)});
  await page.waitForTimeout(200);
  await page.screenshot({path: file, fullPage: true});
}

/** All of the script held. */
export async function end(browser) {
  await browser.close();
  console.log('all of it holds');
}

/** Whoever just signed in on this page says nothing for longer than a session may be silent: this is the thing itself that is waited for. */
export async function silence(page, base, idle) {
  await page.goto(`${base}/account`);
  holds((await page.textContent('h1')) === 'Account', 'the session still counts');
  await page.waitForTimeout((Number(idle) + 1) * 1000);
  await page.goto(`${base}/account`);
  holds((await page.textContent('h1')) === 'Please sign in', 'silence ends the session');
}
