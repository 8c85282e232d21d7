// Receives photos: dropped anywhere, pasted, chosen, or taken with the camera.

const PHOTO = /\.(jpe?g|png|tiff?|webp|bmp)$/i;
export const isHints = (file) => /\.json$/i.test(file.name);

// Filters the files of a folder; files that a person chose singly are always taken.
const isPhoto = (file) => PHOTO.test(file.name) && !file.name.startsWith(".");

const sortFolder = (files) =>
  files
    .filter((file) => isPhoto(file) || isHints(file))
    .sort((one, other) => one.webkitRelativePath.localeCompare(other.webkitRelativePath));

const readFolder = async (folder) => {
  const reader = folder.createReader();
  const entries = [];
  for (;;) { // a call returns at most a hundred entries
    const some = await new Promise((...ends) => reader.readEntries(...ends));
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name));
  const files = [];
  for (const entry of entries) {
    if (entry.isDirectory) {
      files.push(...await readFolder(entry));
    } else {
      const file = await new Promise((...ends) => entry.file(...ends));
      if (isPhoto(file) || isHints(file)) files.push(file);
    }
  }
  return files;
};

const readDropped = async (transfer) => {
  // Read all items before the first await: after it, the list is empty.
  const items = [...transfer.items].filter(({kind}) => kind === "file");
  const all = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const files = [];
  for (const [entry, file] of all) {
    if (entry?.isDirectory) files.push(...await readFolder(entry));
    else if (file) files.push(file);
  }
  return files;
};

// Calls `take(files)` for all received files.
export const listen = (take) => {
  const veil = document.querySelector("#drop");
  const hasFiles = ({dataTransfer}) => dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  addEventListener("drop", async (event) => {
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take(await readDropped(event.dataTransfer));
  });
  addEventListener("paste", ({clipboardData}) => {
    if (clipboardData.files.length) take([...clipboardData.files]);
  });
  for (const id of ["files", "camera", "hints", "folder"]) {
    const input = document.querySelector(`input#${id}`);
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      take(id === "folder" ? sortFolder(files) : files);
    });
  }
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => {
      document.querySelector(`input#${button.dataset.choose}`).click();
    });
  }
};
