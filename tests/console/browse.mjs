// What people do with the console, in Chromium: sign in by the identity provider, see what their roles show, fulfil an officer's task, sign out.
// Each page is looked at by axe. Prints one line for each thing that holds; ends with 1 where one does not.
//
//   browse.mjs PACKAGES BASE PICTURES
import fs from 'node:fs';
import path from 'node:path';
import {barriers, end, holds, picture, start, tooWide} from './driver.mjs';

const [packages, base, pictures] = process.argv.slice(2);
const {browser, require} = await start(packages);

async function signedIn(who, options = {}) {
  const context = await browser.newContext({...options});
  const page = await context.newPage();
  await page.goto(`${base}/login`);
  await page.click('a.button');
  await page.click(`#${who}`);
  await page.waitForURL(`${base}/**`);
  return page;
}

const loaded = [];
const watch = page => page.on('request', own => loaded.push(own.url()));

// Roles.
const vera = await signedIn('vera');
const links = selector => vera.$$eval(selector, all => all.map(link => [link.textContent, link.href]));
const groups = await links('header nav a');
const pages = [];
for (const [, href] of groups) {
  await vera.goto(href);
  pages.push(...(await links('nav.pages a')).map(([name]) => name));
}
const shown = JSON.stringify([groups.map(([name]) => name), pages]);
holds(shown === JSON.stringify([['Mail', 'Rules', 'System'], ['Overview', 'Trackers', 'Delivery', 'Rules in force', 'History', 'Report']]), `a viewer sees ${shown}`);
await vera.goto(`${base}/person`);
holds((await vera.textContent('h1')) === 'Access denied', 'a viewer sees no person');
const nora = await signedIn('nora');
holds((await nora.textContent('h1')) === 'Access denied', 'somebody without a role sees nothing');

// The officer's task: find a person, see why the newsletter was stripped, export the proof.
const olga = await signedIn('olga');
watch(olga);
await olga.goto(`${base}/?controller=shop`);
let clicks = 0;
const click = async selector => { clicks += 1; await olga.click(selector); await olga.waitForLoadState(); };
await click('header nav a:has-text("People")');
await olga.fill('#address', 'bob@home.example');
await click('main form button');
holds(!olga.url().includes('home.example') && !(await olga.content()).includes('home.example'), 'the address stands in no address and on no page');
await click('main table a');
holds((await olga.textContent('article')).includes('because the person refused'), 'why it was stripped is said');
const [download] = await Promise.all([olga.waitForEvent('download'), click('a:has-text("Export the proof")')]);
const proof = JSON.parse(fs.readFileSync(await download.path(), 'utf8'));
holds(proof.records.length === 1 && proof.records[0].proof.hash.length === 64, 'the proof is a file');
holds(clicks <= 5, `it took ${clicks} clicks`);
const story = olga.url();

// By keyboard alone.
await olga.goto(`${base}/?controller=shop`);
await olga.keyboard.press('Tab');
holds((await olga.evaluate(() => document.activeElement.className)) === 'skip', 'the first key leads to the content');

// Every page, as axe and as people see it.
const omar = await signedIn('omar');
watch(omar);
await omar.goto(`${base}/what-if?controller=shop`);
await omar.fill('#text', 'From: a@shop.example\nTo: b@home.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html\n\n<p>News</p><img src="https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN" width=1 height=1>');
await omar.click('main form button');
await omar.waitForSelector('iframe');
const faults = [];
const look = async (page, name, schemes = ['light', 'dark'], widths = [390, 1024, 1600]) => {
  for (const scheme of schemes) {
    await page.emulateMedia({colorScheme: scheme});
    for (const fault of await barriers(page, require)) faults.push(`${name}, ${scheme}: ${fault}`);
    for (const width of widths) {
      await page.setViewportSize({width, height: 900});
      for (const fault of await tooWide(page)) faults.push(`${name} at ${width} px: ${fault}`);
      if (pictures) await picture(page, width, path.join(pictures, `${name}-${width}-${scheme}.png`));
    }
  }
};
await look(omar, 'what-if-tried');
const person = await (async () => {
  await olga.goto(`${base}/person?controller=shop`);
  await olga.fill('#address', 'bob@home.example');
  await olga.click('main form button');
  await olga.waitForURL('**/person/*');
  return olga.url();
})();
for (const [page, name, url] of [
  [olga, 'overview', `${base}/?controller=shop`],
  [olga, 'overview-empty', `${base}/?controller=club`],
  [olga, 'person-search', `${base}/person?controller=shop`],
  [olga, 'person', person],
  [olga, 'person-unknown', `${base}/person/${'0'.repeat(32)}?controller=shop`],
  [olga, 'messages', `${base}/messages?controller=shop`],
  [olga, 'messages-empty', `${base}/messages?controller=club`],
  [olga, 'message', story],
  [olga, 'campaign', `${base}/messages?controller=shop&campaign=none`],
  [olga, 'history', `${base}/history?controller=shop`],
  [olga, 'answers', `${base}/?controller=shop&days=7&purpose=personalisation`],
  [olga, 'rules', `${base}/streams?controller=shop`],
  [vera, 'preference-page', `${base}/streams/page?controller=shop&view=granted&language=fr`],
  [omar, 'what-if', `${base}/what-if?controller=shop`],
  [olga, 'trackers', `${base}/trackers?controller=shop`],
  [olga, 'trackers-empty', `${base}/trackers?controller=club`],
  [olga, 'delivery', `${base}/delivery`],
  [olga, 'audit', `${base}/audit`],
  [olga, 'report', `${base}/report?controller=shop&since=2026-01-01`],
  [omar, 'account', `${base}/account`],
  [olga, 'not-found', `${base}/nothing`],
  [vera, 'forbidden', `${base}/person`],
]) {
  await page.goto(url);
  await look(page, name);
}
holds(faults.length === 0, `axe finds no fault, and no page is wider than its window${faults.map(own => `\n  ${own}`).join('')}`);
const elsewhere = loaded.filter(own => !own.startsWith(base) && !own.startsWith('about:') && !own.startsWith('data:') && !own.startsWith('blob:'));
holds(elsewhere.length === 0, `nothing is loaded from elsewhere ${elsewhere.join(' ')}`);

// In other languages.
for (const [code, word] of [['de', 'Übersicht'], ['fr', 'Aperçu']]) {
  await olga.goto(`${base}/account`);
  await olga.click(`button[value=${code}]`);
  await olga.goto(`${base}/?controller=shop`);
  holds((await olga.textContent('h1')) === word && (await olga.getAttribute('html', 'lang')) === code, `the page is in ${code}`);
  // Words are longer in other languages: what they break shows at the narrowest width.
  for (const own of [`${base}/?controller=shop`, person, story, ...['/person', '/messages', '/streams', '/history', '/what-if', '/trackers', '/delivery', '/audit', '/report', '/account'].map(own => `${base}${own}?controller=shop`)]) {
    await olga.goto(own);
    await look(olga, `${new URL(own).pathname.split('/')[1] || 'overview'}-${code}`, ['light'], [390, 1024]);
  }
}
holds(faults.length === 0, `nor does it in other languages${faults.map(own => `\n  ${own}`).join('')}`);

// Printed.
await olga.goto(`${base}/report?controller=shop&since=2026-01-01`);
const pdf = await olga.pdf();
holds(pdf.length > 10000, 'the report prints');

// Out, here and at the identity provider.
const leaving = await signedIn('omar');
await leaving.goto(`${base}/account`);
await leaving.click('form[action="/logout"] button');
await leaving.waitForURL('**/signed-out');
await leaving.goto(`${base}/account`);
holds((await leaving.textContent('h1')) === 'Please sign in', 'signing out ends the session');
await end(browser);
