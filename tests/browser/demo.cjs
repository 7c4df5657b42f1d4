// Plays the demonstration as a visitor does: opens a mail, withdraws on the reader's page, opens it again.
// Says what was seen, in JSON.
// Arguments: the folder with node_modules, the folder for pictures, the address of the page.
const path = require("node:path");
const [modules, pictures, address] = process.argv.slice(2);
const { chromium } = require(path.join(modules, "node_modules/playwright-core"));
const axe = require(path.join(modules, "node_modules/axe-core")).source;

async function main() {
    const browser = await chromium.launch({
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    });
    const found = { wrong: [] };
    for (const [name, colorScheme, viewport] of [
        ["desk", "light", { width: 1280, height: 900 }], ["desk", "dark", { width: 1280, height: 900 }],
        ["phone", "light", { width: 390, height: 844 }], ["phone", "dark", { width: 390, height: 844 }],
    ]) {
        const context = await browser.newContext({ viewport, colorScheme });
        const page = await context.newPage();
        page.on("pageerror", (error) => found.wrong.push(`${name} ${colorScheme}: ${error.message}`));
        await page.goto(address);
        await page.addScriptTag({ content: axe }).catch(() => page.evaluate(axe));
        const report = await page.evaluate(() => axe.run(document, {
            iframes: false, runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        }));
        for (const violation of report.violations) {
            const where = violation.nodes[0].html.slice(0, 200);
            found.wrong.push(`${name} ${colorScheme}: ${violation.id}: ${violation.help} ${where}`);
        }
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (overflow > 0) found.wrong.push(`${name} ${colorScheme}: ${overflow} pixels too wide`);
        await page.screenshot({ path: path.join(pictures, `demo-${name}-${colorScheme}.png`) });
        await context.close();
    }

    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    await page.goto(address);
    const mail = page.locator("article").first();
    const texts = () => mail.locator(".opens li").allTextContents();
    const frames = page.locator("iframe");
    found.unfit = await frames.evaluateAll((all) => all.filter((frame) => {
        const inner = frame.contentDocument.documentElement;
        return inner.scrollHeight > frame.clientHeight;
    }).length);
    found.sees = await page.frameLocator("article:first-of-type figure.after iframe").locator("body").innerText();
    found.before = await mail.locator(".badge").textContent();
    await mail.getByRole("button").click();
    await mail.locator(".opens li").first().waitFor();
    found.opened = await texts();
    const follow = (link) => Promise.all([context.waitForEvent("page"), link.click()]);
    const [reader] = await follow(mail.getByRole("link", { name: "The reader’s page" }));
    await reader.locator("button[value=withdraw]").click();
    await reader.locator("p[role=status]").waitFor();
    // The page notices by itself.
    await mail.locator(".badge", { hasText: "withdrew" }).waitFor();
    found.after = await mail.locator(".badge").textContent();
    await mail.getByRole("button").click();
    await mail.locator(".opens li").nth(1).waitFor();
    found.opened_again = await texts();
    await page.screenshot({ path: path.join(pictures, "demo-silenced.png") });
    await mail.locator("summary").click();
    found.removed_lines = await mail.locator(".source del").count();
    found.added_lines = await mail.locator(".source ins").count();
    // What is sent now is without a tracker, and appears by itself in another window.
    const second = await context.newPage();
    await second.goto(address);
    await page.getByRole("button", { name: "Send the newsletters again" }).click();
    await second.locator("article").nth(17).waitFor();
    found.next = await second.locator("article").first().locator("strong").textContent();
    const [signed] = await follow(page.getByRole("link", { name: /console/ }));
    await signed.waitForLoadState();
    await signed.locator("main button, form button").first().click();
    await signed.getByRole("heading", { name: "Overview" }).waitFor();
    found.console = await signed.locator("main").innerText();
    await browser.close();
    process.stdout.write(JSON.stringify(found));
}

main().catch((error) => { console.error(error); process.exit(1); });
