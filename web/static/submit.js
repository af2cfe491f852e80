// The submit page: choosing, the list, progress, and what to do when something goes wrong.
// Owns the elements of the page; sending is in upload.js, reading folders in picking.js.
import { chosen, dropped } from "./picking.js";
import { Upload } from "./upload.js";

const ROWS = 200; // more rows than a person reads, and few enough for any browser
const KEPT = "neurosight-upload";

const element = (id) => document.getElementById(id);
const form = element("submit");
const limits = JSON.parse(form.dataset.limits);
const words = JSON.parse(form.dataset.words);
const language = document.documentElement.lang;
const upload = new Upload(form.dataset.uploads, form.dataset.page, () => schedule());

let remembered = ""; // number of the upload that a reload of the page would offer to take up
let scheduled = false;
let began = null; // {at, sent}: for the speed
const rows = new Map(); // item -> its elements

const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const number = (value) => value.toLocaleString(language);
function size(bytes) {
  for (const [unit, step] of [["GB", 1024 ** 3], ["MB", 1024 ** 2], ["KB", 1024]]) {
    if (bytes >= step) return `${(bytes / step).toLocaleString(language, { maximumFractionDigits: 1 })} ${unit}`;
  }
  return `${bytes} B`;
}

// --- Choosing ---

function add(files) {
  if (upload.active || !files.length) return;
  if (upload.state === "done") return;
  const known = new Map(upload.items.map((item) => [item.path, item]));
  for (const { file, path } of files) {
    let name = path;
    let there = known.get(name);
    if (there && !there.file && there.size === file.size) continue; // taken up: it has arrived already
    for (let copy = 2; there && !same(there.file, file); copy++) {
      name = `${path} (${copy})`;
      there = known.get(name);
    }
    if (there) continue;
    const item = { path: name, file, size: file.size, state: "waiting", loaded: 0, error: "", tries: 0 };
    if (file.size > limits.file) Object.assign(item, { state: "failed", hopeless: true, error: fill(words.file_too_large, { limit: size(limits.file) }) });
    upload.items.push(item);
    known.set(name, item);
  }
  say("");
  upload.state = "idle";
  schedule();
}

const same = (one, other) => one && one.size === other.size && one.lastModified === other.lastModified;

function remove(item) {
  const next = rows.get(item)?.row.nextElementSibling?.querySelector("button") ?? element("send");
  upload.items = upload.items.filter((other) => other !== item);
  if (upload.state === "leftover" && !upload.count("failed")) upload.state = "paused";
  next.focus();
  schedule();
}

function wireChoosing() {
  for (const part of form.querySelectorAll(".plain-way")) part.hidden = true;
  for (const part of form.querySelectorAll(".live")) part.hidden = false;
  const folders = "webkitdirectory" in HTMLInputElement.prototype;
  element("choose-folder").hidden = !folders;
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    element(button).addEventListener("click", () => element(input).click());
    element(input).addEventListener("change", () => {
      add(chosen(element(input)));
      element(input).value = ""; // the same files may be chosen again
    });
  }
  const drop = element("drop");
  const over = (on) => drop.classList.toggle("over", on);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    over(!upload.active);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  addEventListener("drop", async (event) => {
    event.preventDefault(); // a near miss must not open the file instead of the page
    over(false);
    if (upload.active) return;
    say(words.reading);
    const files = await dropped(event.dataTransfer);
    say(files.length ? "" : words.no_files_dropped, "warn");
    add(files);
  });
}

// --- Sending ---

function obstacle() {
  if (!upload.items.some(({ state }) => state !== "failed")) return words.nothing;
  if (upload.items.length > limits.files) return fill(words.too_many, { count: number(upload.items.length), limit: number(limits.files) });
  if (upload.size > limits.total) return fill(words.too_large, { size: size(upload.size), limit: size(limits.total) });
  return "";
}

async function send() {
  const reason = obstacle();
  if (reason) return say(reason, "error");
  if (upload.trouble?.kind === "login" && !(await upload.renew())) return schedule();
  if (upload.state === "leftover") upload.failedAgain();
  say(upload.count("sent") ? "" : words.starting);
  began = { at: performance.now(), sent: upload.sentBytes };
  await upload.run(element("title").value.trim(), element("priority").value);
  await settle();
}

async function settle() {
  if (upload.id && upload.state !== "done") remember();
  if (upload.state === "done") {
    localStorage.removeItem(KEPT);
    say(words.done, "good");
    location.assign(form.dataset.job.replace("00000000-0000-0000-0000-000000000000", upload.job));
  }
}

function remember() {
  localStorage.setItem(KEPT, JSON.stringify({ id: upload.id, user: form.dataset.user, title: element("title").value, priority: element("priority").value }));
}

function wireSending() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!upload.active) send();
  });
  element("pause").addEventListener("click", () => {
    upload.pause();
    show(); // a disabled button takes no focus
    element("send").focus();
  });
  element("without").addEventListener("click", async () => {
    await upload.withoutFailed();
    await settle();
  });
  element("cancel").addEventListener("click", async () => {
    await upload.cancel();
    localStorage.removeItem(KEPT);
    say(words.cancelled, "warn");
    show();
    element("send").focus();
  });
  element("clear").addEventListener("click", () => {
    if (upload.id) upload.cancel();
    localStorage.removeItem(KEPT);
    upload.items = [];
    upload.state = "idle";
    upload.trouble = null;
    say("");
    show();
    element("choose-files").focus();
  });
  addEventListener("beforeunload", (event) => {
    if (upload.active) event.preventDefault();
  });
}

// --- An upload of before ---

async function offerToResume() {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KEPT));
  } catch {
    // Not ours, or of another version: as if there were none.
  }
  if (!kept || kept.user !== form.dataset.user) return;
  const found = await upload.look(kept.id);
  if (!found?.files.length || upload.items.length) {
    if (!found) localStorage.removeItem(KEPT);
    return;
  }
  const bytes = found.files.reduce((sum, file) => sum + file.size_bytes, 0);
  element("resume-text").textContent = fill(words.arrived, { count: number(found.files.length), size: size(bytes) });
  element("resume").hidden = false;
  element("resume-yes").addEventListener("click", () => {
    element("resume").hidden = true;
    if (!element("title").value) element("title").value = kept.title ?? "";
    element("priority").value = kept.priority ?? "normal";
    upload.takeUp(found);
    say(words.choose_again);
    element("choose-folder").focus();
  });
  element("resume-no").addEventListener("click", () => {
    element("resume").hidden = true;
    localStorage.removeItem(KEPT);
    upload.discard(kept.id);
    element("choose-files").focus();
  });
}

// --- Showing ---

function say(text, kind = "") {
  const message = element("message");
  message.textContent = text;
  message.className = `notice ${kind}`;
  message.hidden = !text;
}

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    show();
  });
}

function show() {
  const { items, state } = upload;
  const active = upload.active;
  if (active && upload.id && remembered !== upload.id) {
    remembered = upload.id;
    remember();
  }
  showMessage();
  element("listing").hidden = element("total").hidden = !items.length;
  element("clear").hidden = !items.length || active || state === "done";
  element("cancel").hidden = !(state === "sending" || (upload.id && ["paused", "stopped", "leftover"].includes(state)));
  element("pause").hidden = state !== "sending";
  element("without").hidden = state !== "leftover" || !upload.count("sent");
  const button = element("send");
  button.disabled = active || state === "done";
  button.hidden = state === "leftover" && items.every((item) => item.state !== "failed" || item.hopeless);
  button.textContent = state === "leftover" ? words.again : ["paused", "stopped"].includes(state) ? words.go_on : words.send;
  for (const id of ["choose-files", "choose-folder", "title", "priority"]) element(id).disabled = active || state === "done";
  showTotal();
  showProblems();
  showRows();
}

function showMessage() {
  const { state, trouble } = upload;
  const seconds = Math.ceil(upload.waitS);
  if (state === "sending" && trouble) say(seconds ? fill(trouble.kind === "busy" ? words.busy : words.lost, { seconds }) : words.trying, "warn");
  else if (state === "sending" && upload.count("sent")) say("");
  else if (state === "finishing") say(words.finishing);
  else if (state === "paused") say(words.paused);
  else if (state === "leftover") say(fill(words.leftover, { count: number(upload.count("failed")) }), "error");
  else if (state === "stopped" && trouble) {
    const known = { login: words.logged_out, disk: words.disk_full, lost: fill(words.lost, { seconds: 1 }) };
    say(known[trouble.kind] ?? (trouble.detail || fill(words.server_error, { status: trouble.status || "–" })), "error");
  }
}

function showTotal() {
  const done = upload.count("sent");
  const sent = upload.sentBytes;
  const whole = { count: number(upload.total), size: size(upload.size) };
  element("counts").textContent = done || upload.active ? fill(words.progress, { done: number(done), sent: size(sent), ...whole }) : fill(words.counts, whole);
  const bar = element("bar");
  bar.max = Math.max(1, upload.size);
  bar.value = sent;
  const seconds = began && (performance.now() - began.at) / 1000;
  const moving = upload.state === "sending" && seconds > 1 && !upload.trouble;
  element("speed").textContent = moving ? fill(words.speed, { speed: size(Math.round((sent - began.sent) / seconds)) }) : "";
}

function showProblems() {
  const list = element("problems");
  const failed = upload.items.filter(({ state }) => state === "failed").slice(0, 50);
  list.hidden = !failed.length;
  list.replaceChildren(
    ...failed.map((item) => {
      const line = document.createElement("li");
      const name = document.createElement("strong");
      name.textContent = item.path;
      line.append(name, reason(item));
      return line;
    }),
  );
}

function reason(item) {
  if (item.unreadable) return words.unreadable;
  return item.error || fill(words.server_error, { status: item.status || "–" });
}

function showRows() {
  const shown = upload.items.slice(0, ROWS);
  const wanted = new Set(shown);
  for (const [item, { row }] of rows) {
    if (!wanted.has(item)) {
      row.remove();
      rows.delete(item);
    }
  }
  for (const item of shown) showRow(rows.get(item) ?? makeRow(item), item);
  const more = element("more");
  more.hidden = upload.items.length <= ROWS;
  more.textContent = fill(words.more, { count: number(upload.items.length - ROWS) });
}

function makeRow(item) {
  const row = element("rows").insertRow();
  const name = row.insertCell();
  const bytes = row.insertCell();
  const state = row.insertCell();
  const button = document.createElement("button");
  name.textContent = item.path;
  bytes.textContent = size(item.size);
  bytes.className = "figure";
  if (!item.size) {
    const note = document.createElement("span");
    note.className = "warn";
    note.textContent = words.empty;
    name.append(note);
  }
  button.type = "button";
  button.textContent = "✕";
  button.title = fill(words.remove, { name: item.path });
  button.setAttribute("aria-label", button.title);
  button.addEventListener("click", () => remove(item));
  row.insertCell().append(button);
  const made = { row, state, button, shown: "" };
  rows.set(item, made);
  return made;
}

function showRow(made, item) {
  made.button.hidden = upload.active || item.state === "sent" || upload.state === "done";
  if (item.state === "sending" && item.size) {
    if (made.shown !== "sending") {
      made.bar = document.createElement("progress");
      made.bar.setAttribute("aria-label", item.path);
      made.state.replaceChildren(made.bar);
    }
    made.bar.max = item.size;
    made.bar.value = Math.min(item.loaded, item.size);
  } else if (made.shown !== item.state) {
    made.state.textContent = words[item.state];
    made.state.className = item.state;
  }
  made.shown = item.state;
}

wireChoosing();
wireSending();
offerToResume();
