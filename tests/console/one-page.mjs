// One page of a console, wide and as on a phone, light and dark: nobody is kept out, and it is not wider than its window. Where a folder is
// given, pictures are put there.
//
//   one-page.mjs PACKAGES BASE SECRET PATH NAME PICTURES
import fs from 'node:fs';
import path from 'node:path';
import {end, holds, picture, start} from './driver.mjs';

const [packages, base, secret, address, name, pictures] = process.argv.slice(2);
const {browser, require} = await start(packages);
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const page = await browser.newPage();
const faults = [];
await page.goto(`${base}/login/link?secret=${secret}`);
await page.click('main form button');
await page.waitForURL(`${base}/`);
await page.goto(`${base}${address}`);
for (const width of [1280, 390]) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({colorScheme: scheme});
    await page.setViewportSize({width, height: 900});
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ['violations'], iframes: false}));
    faults.push(...found.violations.map(own => `${width} ${scheme}: ${own.id} ${own.nodes.map(node => node.target).join(' ')}`));
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) faults.push(`${over} px wider than ${width}`);
    if (pictures) await picture(page, width, path.join(pictures, `${name}-${width}-${scheme}.png`));
  }
}
holds(faults.length === 0, `the page keeps nobody out${faults.map(own => `\n  ${own}`).join('')}`);
await end(browser);
