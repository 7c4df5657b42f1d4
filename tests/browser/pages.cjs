// Looks at pages as readers do: in each language, on a telephone and on a desk, by axe, by keyboard, without script. Says what was wrong, in JSON.
// Arguments: the folder with node_modules, the folder for pictures, and {name: address} of pages as JSON.
const path = require("node:path");
const [modules, pictures, pages] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "node_modules/playwright-core"));
const axe = require(path.join(modules, "node_modules/axe-core")).source;
const LANGUAGES = ["fr", "en", "it", "de", "es", "nl"];
const SIZES = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 900 } };
const RULES = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };

// What is wrong with how a page is laid out, run within it.
function laidOut() {
    const wrong = [];
    // What is folded has a box, but is not seen.
    const box = (own) => own.checkVisibility() ? own.getBoundingClientRect() : new DOMRect();
    const overflow = document.documentElement.scrollWidth - window.innerWidth;
    if (overflow > 0) wrong.push(`${overflow} pixels too wide`);
    for (const own of document.querySelectorAll("button, nav a, .pair label, input[type=email], summary")) {
        if (box(own).height > 0 && box(own).height < 24) wrong.push(`too small to hit: ${own.textContent}`);
        if (box(own).height > 0 && own.scrollWidth > own.clientWidth + 1) wrong.push(`cut off: ${own.textContent}`);
    }
    for (const own of document.querySelectorAll("legend")) {
        const card = box(own.closest("fieldset"));
        if (box(own).height > 0 && (box(own).top < card.top || box(own).right > card.right || box(own).left < card.left)) {
            wrong.push(`a legend beside its card: ${own.textContent}`);
        }
    }
    for (const own of document.querySelectorAll(".hint")) {
        if (box(own).height > 1.9 * parseFloat(getComputedStyle(own).lineHeight)) wrong.push("the masked address is broken");
    }
    // What is read aloud comes in the order in which it is seen: from the top down, and in a row from the left.
    let last = { top: -1, bottom: -1, left: -1 };
    for (const own of document.querySelectorAll("h1, h2, p, li, button, summary, legend, .pair label, dt, dd, div.letter")) {
        const here = box(own);
        if (here.height === 0) continue;
        const isNext = here.top >= last.bottom - 1 || (here.left >= last.left && here.bottom > last.top);
        if (!isNext) wrong.push(`read in another order than seen: ${own.textContent.slice(0, 60)}`);
        last = here;
    }
    return wrong;
}

// The roles and names of what a screen reader offers, in its order.
async function read(page) {
    const session = await page.context().newCDPSession(page);
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    await session.detach();
    const roles = ["heading", "listitem", "button", "DisclosureTriangle", "link", "radio", "textbox", "status", "alert"];
    const all = new Map(nodes.map((node) => [node.nodeId, node]));
    const found = [];
    const walk = (node) => {
        if (node === undefined) return;
        if (!node.ignored && roles.includes(node.role.value)) found.push(`${node.role.value}: ${node.name?.value ?? ""}`);
        (node.childIds ?? []).forEach((child) => walk(all.get(child)));
    };
    walk(nodes[0]);
    return found;
}

async function main() {
    const browser = await chromium.launch({
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    });
    const found = { wrong: [], links: 0, views: 0, pressed: {}, read: {}, words: {} };
    const wrong = (where, what) => found.wrong.push(`${where}: ${what}`);
    for (const [size, viewport] of Object.entries(process.argv[5] === "press" ? {} : SIZES)) {
        for (const scheme of ["light", "dark"]) {
            const context = await browser.newContext({ viewport, colorScheme: scheme });
            const page = await context.newPage();
            // Browsers ask every site for a small picture; there is none.
            page.on("console", (own) => own.location().url.endsWith("/favicon.ico") || wrong(page.url(), own.text()));
            page.on("pageerror", (own) => wrong(page.url(), own.message));
            for (const [name, address] of Object.entries(JSON.parse(pages))) {
                const light = size === "desk" && address.startsWith("file:") ? ["de"] : LANGUAGES;
                for (const language of scheme === "dark" ? light.slice(0, 1) : light) {
                    const where = `${name} ${language} ${size} ${scheme}`;
                    await page.goto(address.includes("LANGUAGE") ? address.replace("LANGUAGE", language) : `${address}?lang=${language}`);
                    found.views += 1;
                    await page.evaluate(axe);
                    const report = await page.evaluate((rules) => axe.run(document, rules), RULES);
                    for (const own of report.violations) {
                        wrong(where, `${own.id}: ${own.help} ${own.nodes.map((node) => node.html).join(" ").slice(0, 300)}`);
                    }
                    for (const own of await page.evaluate(laidOut)) wrong(where, own);
                    // Only what somebody chose before is chosen.
                    const never = { granted: "[value=no]:checked", "form-used": "[value=no]:checked", refused: "[value=yes]:checked" };
                    const chosen = `script, ${never[name] ?? ":checked"}`;
                    if (await page.evaluate((what) => document.querySelectorAll(what).length, chosen) > 0) {
                        wrong(where, "a script or something chosen in advance");
                    }
                    // What somebody decides by stands on the first screen.
                    const low = await page.evaluate(() => [...document.querySelectorAll("button[value=refuse], button[value=accept]")]
                        .map((own) => own.getBoundingClientRect()).filter((own) => own.bottom > 844 || own.height === 0).length);
                    if (name === "unknown" && low > 0) wrong(where, "an answer below the first screen");
                    if (name === "unknown" && size === "phone") {
                        found.read[language] = await read(page);
                        found.words[language] = await page.evaluate(() => {
                            const main = document.querySelector("main").cloneNode(true);
                            main.querySelectorAll("details").forEach((own) => own.remove());
                            const pieces = [...main.querySelectorAll("h1, p, li, button")].map((own) => own.textContent);
                            return pieces.join(" ").split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
                        });
                    }
                    await page.screenshot({ path: path.join(pictures, `${name}-${language}-${size}-${scheme}-folded.png`) });
                    await page.evaluate(() => document.querySelectorAll("details").forEach((own) => { own.open = true; }));
                    const open = await page.evaluate((rules) => axe.run(document, rules), RULES);
                    for (const own of open.violations) wrong(`${where} unfolded`, `${own.id}: ${own.help}`);
                    for (const own of await page.evaluate(laidOut)) wrong(`${where} unfolded`, own);
                    // At 200 %: the text alone, and the whole page on half of the width.
                    await page.evaluate(() => { document.documentElement.style.fontSize = "200%"; });
                    for (const own of await page.evaluate(laidOut)) wrong(`${where} at twice the size of text`, own);
                    await page.evaluate(() => { document.documentElement.style.fontSize = ""; });
                    await page.setViewportSize({ width: viewport.width / 2, height: viewport.height / 2 });
                    for (const own of await page.evaluate(laidOut)) wrong(`${where} at 200 %`, own);
                    await page.setViewportSize(viewport);
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
