// Keeps photos, previews and settings in the browser between visits. They are in three
// stores, so that a new dot does not write the photo again.

const STORES = ["files", "previews", "edits"];
let database = null;

// Returns whether the browser keeps data; some do not in private windows.
export const open = () =>
  new Promise((resolve) => {
    const request = indexedDB.open("colorizer", 1);
    request.onupgradeneeded = () => {
      for (const name of STORES) request.result.createObjectStore(name, {keyPath: "id"});
    };
    request.onsuccess = () => {
      database = request.result;
      resolve(true);
    };
    request.onerror = () => resolve(false);
  });

const within = (names, mode, work) =>
  new Promise((resolve, reject) => {
    if (!database) {
      resolve([]);
      return;
    }
    const transaction = database.transaction(names, mode);
    const results = names.map((name) => work(transaction.objectStore(name)));
    transaction.commit(); // at once: a closed page aborts open transactions
    transaction.oncomplete = () => resolve(results.map((request) => request?.result));
    transaction.onabort = () => reject(transaction.error);
  });

export const put = (name, record) =>
  within([name], "readwrite", (store) => store.put(record));

export const remove = (ids) =>
  within(STORES, "readwrite", (store) => ids.map((id) => store.delete(id)).at(-1));

// Returns the records of all stores, joined by their ids.
export const readAll = async () => {
  const [files = [], previews = [], edits = []] = await within(
    STORES, "readonly", (store) => store.getAll(),
  );
  const byId = (records) => new Map(records.map((record) => [record.id, record]));
  const [kept, drawn] = [byId(files), byId(previews)];
  return edits
    .filter(({id}) => kept.has(id))
    .map((edit) => ({...edit, ...kept.get(edit.id), ...drawn.get(edit.id)}));
};
