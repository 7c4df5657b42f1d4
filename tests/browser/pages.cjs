// Looks at pages as readers do: in each language, on a telephone and on a desk, by axe, by keyboard, without script. Says what was wrong, in JSON.
// Arguments: the folder with node_modules, the folder for pictures, and {name: address} of pages as JSON.
const path = require("node:path");
const [modules, pictures, pages] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "node_modules/playwright-core"));
const axe = require(path.join(modules, "node_modules/axe-core")).source;
const LANGUAGES = ["fr", "en", "it", "de", "es", "nl"];
const SIZES = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } };

async function main() {
    const browser = await chromium.launch({
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    });
    const found = { wrong: [], links: 0, views: 0, pressed: {} };
    const wrong = (where, what) => found.wrong.push(`${where}: ${what}`);
    for (const [size, viewport] of Object.entries(process.argv[5] === "press" ? {} : SIZES)) {
        for (const scheme of ["light", "dark"]) {
            const context = await browser.newContext({ viewport, colorScheme: scheme });
            const page = await context.newPage();
            // Browsers ask every site for a small picture; there is none.
            page.on("console", (own) => own.location().url.endsWith("/favicon.ico") || wrong(page.url(), own.text()));
            page.on("pageerror", (own) => wrong(page.url(), own.message));
            for (const [name, address] of Object.entries(JSON.parse(pages))) {
                for (const language of scheme === "dark" ? LANGUAGES.slice(0, 1) : LANGUAGES) {
                    const where = `${name} ${language} ${size} ${scheme}`;
                    await page.goto(`${address}?lang=${language}`);
                    found.views += 1;
                    await page.evaluate(axe);
                    const report = await page.evaluate(() => axe.run(document, {
                        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
                    }));
                    for (const own of report.violations) {
                        wrong(where, `${own.id}: ${own.help} ${own.nodes.map((node) => node.html).join(" ").slice(0, 300)}`);
                    }
                    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
                    if (overflow > 0) wrong(where, `${overflow} pixels too wide`);
                    const small = await page.evaluate(() => [...document.querySelectorAll("button, nav a, .pair label, input[type=email]")]
                        .map((own) => [own.textContent, own.getBoundingClientRect().height])
                        .filter(([, height]) => height < 24));
                    if (small.length > 0) wrong(where, `too small to hit: ${JSON.stringify(small)}`);
                    // Only what somebody chose before is chosen.
                    const chosen = name === "granted" ? "script, [value=no]:checked" : "script, :checked";
                    if (await page.evaluate((what) => document.querySelectorAll(what).length, chosen) > 0) {
                        wrong(where, "a script or something chosen in advance");
                    }
                    // What somebody decides by stands on the first screen.
                    const low = await page.evaluate(() => [...document.querySelectorAll("button[value=refuse], button[value=accept]")]
                        .map((own) => own.getBoundingClientRect()).filter((own) => own.bottom > 844 || own.height === 0).length);
                    if (name === "unknown" && low > 0) wrong(where, "an answer below the first screen");
                    await page.evaluate(() => document.querySelectorAll("details").forEach((own) => { own.open = true; }));
                    const open = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
                    for (const own of open.violations) wrong(`${where} unfolded`, `${own.id}: ${own.help}`);
                    await page.screenshot({ path: path.join(pictures, `${name}-${language}-${size}-${scheme}.png`), fullPage: true });
                }
                const links = await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((own) => own.href));
                for (const link of links.filter((own) => own.startsWith("http://127.0.0.1:"))) {
                    await page.goto(link);
                    found.links += 1;
                }
            }
            await context.close();
        }
    }
    // The whole way by keyboard, without script.
    const context = await browser.newContext({ viewport: SIZES.phone, javaScriptEnabled: false, locale: "de-DE" });
    const page = await context.newPage();
    const all = JSON.parse(pages);
    if (process.argv[5] === "press") {
        for (const [name, button] of [["unknown", "accept"], ["granted", "withdraw"]]) {
            await page.goto(all[name]);
            await page.locator(`button[value=${button}]`).focus();
            await page.keyboard.press("Enter");
            await page.locator("p[role=status] strong").waitFor();
            found.pressed[name] = await page.locator("h1").textContent();
            await page.screenshot({ path: path.join(pictures, `${name}-after-${button}.png`), fullPage: true });
        }
    }
    await browser.close();
    console.log(JSON.stringify(found));
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
