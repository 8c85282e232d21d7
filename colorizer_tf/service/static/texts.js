// The texts of the page, in the chosen language, or by default in the browser's.

const LANGUAGES = ["en", "ru"];
let words = {};
export let language = "en";

export const t = (key, values = {}) =>
  (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

export const wanted = () => {
  const own = localStorage.getItem("language");
  const all = [own, ...navigator.languages].map((name) => name?.slice(0, 2).toLowerCase());
  return all.find((name) => LANGUAGES.includes(name)) ?? "en";
};

export const use = async (chosen) => {
  const response = await fetch(new URL(`texts/${chosen}.json`, import.meta.url));
  words = await response.json();
  language = chosen;
  document.documentElement.lang = chosen;
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = t(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.ariaLabel = t(element.dataset.label);
    if (element.matches("button")) element.title = t(element.dataset.label);
  }
};
