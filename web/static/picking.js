// From what a person chose or dropped to a flat list of files with their paths inside it.
// Refuses to look into files: what they are is decided on the server.

/** The files of an input element, each with its path below the chosen folder. */
export function chosen(input) {
  return [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/** The files of a drop, folders walked to their ends. The entries must be taken before anything is awaited. */
export async function dropped(transfer) {
  const entries = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) if (entry) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  if (entry instanceof File) {
    found.push({ file: entry, path: entry.name });
  } else if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, path: folder + entry.name });
  } else {
    const reader = entry.createReader();
    for (;;) {
      // A reader hands out about a hundred entries at a time, and none at the end.
      const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
      if (!some.length) return;
      for (const inner of some) await walk(inner, `${folder}${entry.name}/`, found);
    }
  }
}
