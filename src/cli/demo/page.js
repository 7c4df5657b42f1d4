// Shows what is new without a reload, and fits each frame to its message.
"use strict";

const MAX_HEIGHT = 1400;

function fit(frame) {
    const inner = frame.contentDocument?.documentElement;
    if (inner) frame.style.height = `${Math.min(inner.scrollHeight + 4, MAX_HEIGHT)}px`;
}

function fitAll() {
    for (const frame of document.querySelectorAll("iframe")) {
        frame.addEventListener("load", () => fit(frame));
        fit(frame);
    }
}

async function update() {
    const answer = await fetch("/");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = [...document.querySelectorAll("details[open]")].map((details) => details.id);
    const main = document.querySelector("main");
    const story = document.getElementById("story");
    const told = fresh.getElementById("story").innerHTML;
    if (story.innerHTML !== told) story.innerHTML = told;
    for (const article of [...fresh.querySelectorAll("main > article")].reverse()) {
        const known = document.getElementById(article.id);
        if (!known) main.prepend(article);
        else if (known.innerHTML !== article.innerHTML) replace(known, article);
    }
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    fitAll();
}

// The frames stay, since what is in them never changes.
function replace(known, article) {
    const pair = known.querySelector(".pair");
    const fresh = article.querySelector(".pair");
    if (!pair || !fresh) return known.replaceWith(article);
    for (const [at, child] of [...article.children].entries()) {
        const old = known.children[at];
        if (child !== fresh && old.outerHTML !== child.outerHTML) old.replaceWith(child.cloneNode(true));
    }
}

let shown;
async function look() {
    try {
        const answer = await fetch("/state");
        const state = await answer.text();
        if (shown !== undefined && state !== shown) await update();
        shown = state;
    } catch {
        // The demonstration ended, or starts again.
    }
}

fitAll();
look();
setInterval(look, 1000);
