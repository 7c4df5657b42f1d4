// The pictures of docs/console: each page as an officer sees it who also operates, and some as on a phone or in the dark. Without a folder,
// it only visits the pages.
//
//   documented.mjs PACKAGES BASE SECRET PICTURES
import fs from 'node:fs';
import path from 'node:path';
import {end, faultsOf, holds, signedIn, start} from './driver.mjs';
import {small} from './palette.mjs';

const [packages, base, secret, pictures] = process.argv.slice(2);
const {browser, require} = await start(packages);
const page = await signedIn(browser, base, secret);
const found = [];

async function draw(name, width = 1100, scheme = 'light', height = 1500) {
  await page.emulateMedia({colorScheme: scheme});
  await page.setViewportSize({width, height: 900});
  found.push(...(await faultsOf(page, require)).map(fault => `${name}: ${fault}`));
  if (!pictures) return;
  const whole = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({width, height: Math.min(whole, height)});
  await page.waitForTimeout(200);
  fs.writeFileSync(path.join(pictures, `${name}.png`), small(await page.screenshot()));
}

async function visit(address) {
  await page.goto(`${base}${address}`);
}

await visit('/?controller=shop');
await draw('overview', 1100, 'light', 1250);
await draw('overview-phone', 390, 'dark', 844);
// Answers and exemptions stand below.
await page.setViewportSize({width: 1100, height: 900});
await page.evaluate(() => { for (const own of [...document.querySelectorAll('main > *')]) { if (own.textContent.startsWith('Consent by purpose')) break; if (own.tagName !== 'H1') own.remove(); } });
await draw('answers', 1100, 'light', 1300);
await visit('/messages?controller=shop');
await draw('messages', 1100, 'light', 900);
await draw('messages-phone', 390, 'light', 844);
await page.click('a.tag:has-text("winter-lights")');
await page.waitForLoadState();
await draw('campaign', 1100, 'light', 800);
await page.click('main table a');
await page.waitForLoadState();
await page.fill('#address', 'bob@home.example');
await page.click('form:has(#address) button');
await page.waitForLoadState();
if (!(await page.textContent('main')).includes('Five lamps')) {
  await visit('/messages?controller=shop');
  await page.fill('form[action="/messages/recipient"] input[name=address]', 'bob@home.example');
  await page.click('form[action="/messages/recipient"] button');
  await page.waitForLoadState();
  await page.click('main table th a');
  await page.waitForLoadState();
}
holds((await page.textContent('main')).includes('Five lamps'), 'the subject is shown for the recipient');
await draw('message', 1100, 'light', 1100);
await draw('message-phone', 390, 'dark', 844);
for (const [name, address, height] of [
  ['trackers', '/trackers?controller=shop', 900], ['delivery', '/delivery', 1200], ['rules', '/streams?controller=shop', 1000],
  ['history', '/history?controller=shop', 1200], ['report', '/report?controller=shop&since=2026-10-01', 1300], ['audit', '/audit', 800],
]) {
  await visit(address);
  // Each in all ways, of which the documents show one.
  const dark = name === 'delivery';
  await draw(`${name}-phone`, 390, 'light', 844);
  await draw(dark ? `${name}-light` : `${name}-dark`, 1100, dark ? 'light' : 'dark', height);
  await draw(name, 1100, dark ? 'dark' : 'light', height);
}
await visit('/person?controller=shop');
await page.fill('#address', 'bob@home.example');
await page.click('main form button');
await page.waitForURL('**/person/*');
await draw('person', 1100, 'light', 1100);
await draw('person-phone', 390, 'light', 844);
const person = page.url();
await page.goto(person.replace('?', '/print?'));
await draw('print', 1100, 'light', 900);
await visit('/what-if?controller=shop');
await page.fill('#text', 'From: news@shop.example\nTo: b@home.example\nSubject: Lamps\nMIME-Version: 1.0\nContent-Type: text/html\n\n<h1>Five lamps for long evenings</h1><p>Read on in the shop.</p><img src="https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN" width=1 height=1>');
await page.click('main form button');
await page.waitForSelector('iframe');
await draw('what-if', 1100, 'dark', 1300);
holds(found.length === 0, `axe finds no fault, and no page is wider than its window${found.map(fault => `\n  ${fault}`).join('')}`);
await end(browser);
