// Signing in and out by SimpleSAMLphp, in Chromium. Prints one line for each thing that holds; ends with 1 where one does not.
//
//   browse-simplesamlphp.mjs PACKAGES BASE IDLE_SECONDS LOGOUT_AT_IDP
import {end, holds, silence, start} from './driver.mjs';

const [packages, base, idle] = process.argv.slice(2);
const {browser} = await start(packages);

async function signedIn(who) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${base}/login`);
  await page.click('a.button');
  await page.fill('input[name=username]', who);
  await page.fill('input[name=password]', 'secret');
  await page.keyboard.press('Enter');
  await page.waitForURL(`${base}/**`);
  return page;
}

const olga = await signedIn('olga');
await olga.goto(`${base}/account`);
holds((await olga.textContent('dl')).includes('officer of all'), 'an officer is one by the group that SimpleSAMLphp names');
await olga.goto(`${base}/person`);
holds((await olga.textContent('h1')) === 'Person', 'an officer may look for people');
await olga.goto(`${base}/what-if?controller=shop`);
holds((await olga.textContent('h1')) === 'What if', 'and try rules out');
const nora = await signedIn('nora');
await nora.goto(`${base}/person`);
holds((await nora.textContent('h1')) === 'Access denied', 'who is in no group sees nothing');
// A second window does not sign in anew at the identity provider; the session of the first goes on.
const second = await olga.context().newPage();
await second.goto(`${base}/saml/login`);
await second.waitForURL(`${base}/`);
holds((await second.textContent('h1')) === 'Overview', 'whoever is signed in there already is let in at once');
await second.goto(`${base}/account`);
await second.click('form[action="/logout"] button');
await second.waitForURL('**/signed-out');
await second.goto(`${base}/saml/login`);
await second.waitForSelector('input[name=password]');
holds(true, 'signing out here signs out at SimpleSAMLphp, which asks for the password again');
// The other way: what is ended there is ended here, by a request that SimpleSAMLphp signs.
const again = await signedIn('olga');
const there = await again.context().newPage();
await there.goto(process.argv[5]);
await there.waitForLoadState('networkidle');
await again.goto(`${base}/account`);
holds((await again.textContent('h1')) === 'Please sign in', 'signing out at SimpleSAMLphp signs out here');
await silence(await signedIn('nora'), base, idle);
await end(browser);
