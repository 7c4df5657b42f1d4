// Every page of a console at each width, light and dark: none may be wider than its window. Where a folder is given, pictures are put there.
//
//   pictures.mjs PACKAGES BASE SECRET PERSON STORY NAME PICTURES
import path from 'node:path';
import {end, holds, picture, signedIn, start, tooWide} from './driver.mjs';

const [packages, base, secret, person, story, name, pictures] = process.argv.slice(2);
const {browser} = await start(packages);
const page = await signedIn(browser, base, secret);
const faults = [];
const login = `${base}/login/link?secret=${secret}`;

async function look(page, what) {
  for (const width of [390, 1024, 1600]) {
    await page.setViewportSize({width, height: 900});
    for (const fault of await tooWide(page)) faults.push(`${what} at ${width} px: ${fault}`);
    for (const scheme of pictures ? ['light', 'dark'] : []) {
      await page.emulateMedia({colorScheme: scheme});
      await picture(page, width, path.join(pictures, `${name}-${what}-${width}-${scheme}.png`));
    }
  }
}

const every = [
  ['overview', '/?controller=shop'], ['quarter', '/?controller=shop&days=90'], ['hours', '/?controller=shop&hours=24'],
  ['person-search', '/person?controller=shop'], ['person', `/person/${person}?controller=shop`], ['print', `/person/${person}/print?controller=shop`],
  ['messages', '/messages?controller=shop'], ['rules', '/streams?controller=shop'], ['preference-page', '/streams/page?controller=shop'], ['what-if', '/what-if?controller=shop'],
  ['trackers', '/trackers?controller=shop'], ['delivery', '/delivery?controller=shop'], ['audit', '/audit?controller=shop'],
  ['report', '/report?controller=shop&since=2026-01-01'], ['account', '/account'],
];
if (story) every.push(['message', `/messages/${story}`]);
for (const [what, address] of every) {
  await page.goto(`${base}${address}`);
  await look(page, what);
}
await page.goto(`${base}/what-if?controller=shop`);
await page.fill('#text', 'From: a@shop.example\nTo: b@home.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html\n\n<p>News</p><img src="https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN" width=1 height=1>');
await page.click('main form button');
await page.waitForSelector('iframe');
await look(page, 'what-if-tried');

// What is seen before signing in, and after.
const stranger = await (await browser.newContext()).newPage();
for (const [what, address] of [['sign-in', base], ['how', `${base}/login`], ['link', login], ['signed-out', `${base}/signed-out`], ['nothing', `${base}/nothing`]]) {
  await stranger.goto(address);
  await look(stranger, what);
}
holds(faults.length === 0, `no page is wider than its window${faults.map(own => `\n  ${own}`).join('')}`);
await end(browser);
