// Caches the site, so that it loads at once and offline. Adds the headers that threads
// need, because hosts of static files do not send them.

const VERSION = "";
const PAGE = [];
const LARGE = []; // files whose names change with their content

const pageCache = `page-${VERSION}`;
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const address = (path) => new URL(path, registration.scope).href;

addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(pageCache);
    await cache.addAll(PAGE.map((path) => new Request(address(path), {cache: "reload"})));
    await skipWaiting();
  };
  event.waitUntil(keep());
});

addEventListener("activate", (event) => {
  const tidy = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith("page-") && name !== pageCache);
    await Promise.all(old.map((name) => caches.delete(name)));
    const cache = await caches.open("large");
    const wanted = new Set(LARGE.map(address));
    const gone = (await cache.keys()).filter(({url}) => !wanted.has(url));
    await Promise.all(gone.map((request) => cache.delete(request)));
    await clients.claim();
  };
  event.waitUntil(tidy());
});

const answer = async (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  const isLarge = LARGE.map(address).includes(url.href);
  const cache = await caches.open(isLarge ? "large" : pageCache);
  let response = await cache.match(url.href);
  if (!response) {
    response = await fetch(event.request);
    if (isLarge && response.ok) event.waitUntil(cache.put(url.href, response.clone()));
  }
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const {status, statusText} = response;
  return new Response(response.body, {status, statusText, headers});
};

addEventListener("fetch", (event) => {
  const {method, url} = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event));
});
