// Renews a page that says so by itself, in place: what somebody reads, types or has opened stays. Everything works without it.
'use strict';
const main = document.querySelector('main[data-renew]');
if (main) {
  setInterval(async () => {
    const isInUse = document.hidden || main.contains(document.activeElement) || main.querySelector('details[open]');
    if (isInUse) return;
    const address = new URL(location.href);
    address.searchParams.set('renewal', '1');
    const answer = await fetch(address, {redirect: 'error'}).catch(() => null);
    if (answer && answer.status === 401) location.reload();
    if (!answer || !answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    main.replaceChildren(...page.querySelector('main').childNodes);
  }, Number(main.dataset.renew) * 1000);
}
