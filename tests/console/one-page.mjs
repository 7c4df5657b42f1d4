// One page of a console, wide and as on a phone, light and dark: nobody is kept out, and it is not wider than its window. Where a folder is
// given, pictures are put there.
//
//   one-page.mjs PACKAGES BASE SECRET PATH NAME PICTURES
import path from 'node:path';
import {end, faultsOf, holds, picture, signedIn, start} from './driver.mjs';

const [packages, base, secret, address, name, pictures] = process.argv.slice(2);
const {browser, require} = await start(packages);
const page = await signedIn(browser, base, secret);
const found = [];
await page.goto(`${base}${address}`);
for (const width of [1280, 390]) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({colorScheme: scheme});
    await page.setViewportSize({width, height: 900});
    found.push(...(await faultsOf(page, require)).map(fault => `${width} ${scheme}: ${fault}`));
    if (pictures) await picture(page, width, path.join(pictures, `${name}-${width}-${scheme}.png`));
  }
}
holds(found.length === 0, `the page keeps nobody out${found.map(fault => `\n  ${fault}`).join('')}`);
await end(browser);
