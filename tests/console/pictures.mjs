// Every page of a console at each width, light and dark: none may be wider than its window. Where a folder is given, pictures are put there.
//
//   pictures.mjs PACKAGES BASE SECRET PERSON STORY NAME PICTURES
import path from 'node:path';
import {end, holds, start} from './driver.mjs';

const [packages, base, secret, person, story, name, pictures] = process.argv.slice(2);
const {browser} = await start(packages);
const page = await browser.newPage();
await page.goto(`${base}/login/link?secret=${secret}`);
await page.click('main form button');
await page.waitForURL(`${base}/`);

const faults = [];
async function look(what, schemes = ['light', 'dark']) {
  for (const width of [390, 1024, 1600]) {
    await page.setViewportSize({width, height: 900});
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) faults.push(`${what}: ${over} px wider than ${width}`);
    for (const scheme of pictures ? schemes : []) {
      await page.emulateMedia({colorScheme: scheme});
      await page.screenshot({path: path.join(pictures, `${name}-${what}-${width}-${scheme}.png`), fullPage: true});
    }
  }
}

const every = [
  ['overview', '/?controller=shop'], ['quarter', '/?controller=shop&days=90'], ['hours', '/?controller=shop&hours=24'],
  ['person-search', '/person?controller=shop'], ['person', `/person/${person}?controller=shop`],
  ['messages', '/messages?controller=shop'], ['rules', '/streams?controller=shop'], ['preference-page', '/streams/page?controller=shop'], ['what-if', '/what-if?controller=shop'],
  ['trackers', '/trackers?controller=shop'], ['delivery', '/delivery?controller=shop'], ['audit', '/audit?controller=shop'],
  ['report', '/report?controller=shop&since=2026-01-01'], ['account', '/account'],
];
if (story) every.push(['message', `/messages/${story}`]);
for (const [what, address] of every) {
  await page.goto(`${base}${address}`);
  await look(what);
}
holds(faults.length === 0, `no page is wider than its window${faults.map(own => `\n  ${own}`).join('')}`);
await end(browser);
