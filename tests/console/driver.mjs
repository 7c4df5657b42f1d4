// What the scripts of this folder share: Chromium by Playwright, one line for each thing that holds, and the end of a session by silence.
import fs from 'node:fs';
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

/** A page of a console, signed in by the secret of a link. */
export async function signedIn(browser, base, secret) {
  const page = await browser.newPage();
  await page.goto(`${base}/login/link?secret=${secret}`);
  await page.click('main form button');
  await page.waitForURL(`${base}/`);
  return page;
}

/** What keeps somebody out of a page, as axe finds it, which is found by `require`. The page's own policy allows no script, so that of axe is put in from outside. */
export async function barriers(page, require) {
  await page.evaluate(fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));
  const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ['violations'], iframes: false}));
  return found.violations.map(fault => `${fault.id} ${fault.nodes.map(node => node.target).join(' ')}`);
}

/** By how much a page is wider than its window, as a fault. */
export async function tooWide(page) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  return over > 0 ? [`${over} px wider than its window`] : [];
}

/** Both. */
export async function faultsOf(page, require) {
  return [...await barriers(page, require), ...await tooWide(page)];
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
