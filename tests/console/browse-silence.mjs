// The end of a session by silence, in Chromium, with pysaml2 as the identity provider.
//
//   browse-silence.mjs PACKAGES BASE IDLE_SECONDS
import {end, silence, start} from './driver.mjs';

const [packages, base, idle] = process.argv.slice(2);
const {browser} = await start(packages);
const page = await browser.newPage();
await page.goto(`${base}/login`);
await page.click('a.button');
await page.click('#vera');
await page.waitForURL(`${base}/**`);
await silence(page, base, idle);
await end(browser);
