// The upload protocol: one upload, many files, a few at a time, through a connection that may break.
// Owns what is sent, tried again, or given up. Knows no page: it calls `changed` whenever something moved.
// Refuses to lose anything: whatever stops it, the list stays and `run()` goes on where it was.

const PARALLEL = 3;
const SILENCE_MS = 45_000; // a connection on which nothing moves for so long is taken for lost
const HASH_BYTES = 64 * 1024 * 1024; // larger files are not read into memory to be hashed; the server hashes anyway
const LONGEST_WAIT_S = 20;
const TRIES_OF_A_FILE = 3;

/** Why a request did not succeed. `kind`: lost, busy, login, token, closed, disk, again, file or server. */
export class Refused extends Error {
  constructor(kind, detail = "", { status = 0, waitS = 0 } = {}) {
    super(detail || kind);
    Object.assign(this, { kind, detail, status, waitS });
  }
}

/** What an answer means for the upload. */
function refusal(status, text, header) {
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // An answer of something between us and the server; its status says enough.
  }
  const detail = problem.detail ?? "";
  const more = { status, waitS: Number(header("Retry-After")) || 0 };
  if (status === 401) return new Refused("login", detail, more);
  if (status === 403 && problem.code === "csrf") return new Refused("token", detail, more);
  if (status === 404 || status === 409) return new Refused("closed", detail, more);
  if (status === 413) return new Refused("file", detail, more);
  if (status === 429 || status === 503) return new Refused("busy", detail, more);
  if (status === 502 || status === 504) return new Refused("lost", detail, more);
  if (status === 507) return new Refused("disk", detail, more);
  if (status === 400 || status === 422) return new Refused("again", detail, more); // broken off or damaged on the way
  return new Refused("server", detail, more);
}

async function sha256(file) {
  if (!globalThis.crypto?.subtle || file.size > HASH_BYTES) return ""; // no secure context: the server's hash has to do
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Upload {
  /**
   * @param address of the API's uploads.
   * @param page that carries a fresh security token.
   * @param changed called without arguments after every change.
   */
  constructor(address, page, changed) {
    Object.assign(this, { address, page, changed });
    this.items = []; // {path, file, size, state: waiting|sending|sent|failed, loaded, error, tries}
    this.state = "idle"; // idle, sending, paused, stopped, leftover, finishing, done
    this.trouble = null; // the Refused that waits for time or for the user
    this.waitS = 0; // until it is tried again by itself
    this.id = null;
    this.job = null;
    this.token = document.querySelector("meta[name=csrf-token]").content;
    this.running = new Set();
    this.hold = null; // the wait that all senders share
    this.tries = 0;
    this.turn = 0; // raised whenever sending begins or ends: what belongs to an earlier turn keeps quiet
  }

  get sentBytes() {
    return this.items.reduce((sum, item) => sum + (item.state === "sent" ? item.size : Math.min(item.loaded, item.size)), 0);
  }
  /** Files and bytes to be sent: those that can never go are not counted. */
  get total() {
    return this.items.reduce((sum, item) => sum + !item.hopeless, 0);
  }
  get size() {
    return this.items.reduce((sum, item) => sum + (item.hopeless ? 0 : item.size), 0);
  }
  count(state) {
    return this.items.reduce((sum, item) => sum + (item.state === state), 0);
  }
  get active() {
    return this.state === "sending" || this.state === "finishing";
  }

  /** Sends all that waits, then completes the upload. */
  async run(title, priority) {
    if (this.active) return;
    const turn = ++this.turn;
    Object.assign(this, { title, priority, state: "sending", trouble: null, tries: 0 });
    this.changed();
    try {
      await this.#until(() => this.#open());
      await Promise.all(Array.from({ length: PARALLEL }, () => this.#sender(turn)));
      if (this.turn !== turn) return;
      if (this.count("failed")) {
        this.state = "leftover";
        return;
      }
      await this.#finish();
    } catch (error) {
      if (this.turn === turn) this.#stop(error);
    } finally {
      this.changed();
    }
  }

  /** Completes without what failed. */
  async withoutFailed() {
    this.items = this.items.filter((item) => item.state !== "failed");
    await this.run(this.title, this.priority);
  }

  failedAgain() {
    for (const item of this.items) if (item.state === "failed" && !item.hopeless) Object.assign(item, { state: "waiting", error: "", tries: 0 });
  }

  /** Stops sending; what has arrived stays. */
  pause() {
    if (this.state !== "sending") return;
    this.state = "paused";
    this.#abort();
    this.changed();
  }

  /** Gives the upload up; the list stays. */
  async cancel() {
    const id = this.id;
    this.state = "idle";
    this.#abort();
    this.forget();
    this.changed();
    if (id) await this.#call("DELETE", `${this.address}/${id}`).catch(() => {}); // else it is swept when it expires
  }

  /** Takes up an upload of before: its files count as sent. */
  takeUp(found) {
    this.id = found.id;
    this.items = found.files.map(({ path, size_bytes: size }) => ({ path, file: null, size, state: "sent", loaded: size, error: "", tries: 0 }));
    this.changed();
  }

  /** The upload of this number as the server knows it; null when it cannot be taken up. */
  async look(id) {
    try {
      const found = await this.#call("GET", `${this.address}/${id}`);
      return found.state === "receiving" ? found : null;
    } catch {
      return null;
    }
  }

  async discard(id) {
    await this.#call("DELETE", `${this.address}/${id}`).catch(() => {});
  }

  /** The next run begins a new upload. */
  forget() {
    this.id = null;
    this.items = this.items.filter((item) => item.file);
    for (const item of this.items) {
      if (!item.hopeless && item.state !== "sending") Object.assign(item, { state: "waiting", loaded: 0, error: "", tries: 0 });
    }
  }

  async #open() {
    if (this.id) return;
    const made = await this.#call("POST", this.address, { title: this.title, priority: this.priority });
    this.id = made.id;
    this.changed();
  }

  async #finish() {
    this.state = "finishing";
    this.changed();
    const job = await this.#until(() => this.#call("POST", `${this.address}/${this.id}/complete`));
    this.job = job.id;
    this.state = "done";
  }

  async #sender(turn) {
    while (this.turn === turn) {
      await this.hold;
      if (this.turn !== turn) return;
      const item = this.items.find(({ state }) => state === "waiting");
      if (!item) return;
      await this.#send(item, turn);
      this.changed();
    }
  }

  async #send(item, turn) {
    Object.assign(item, { state: "sending", loaded: 0, error: "" });
    const upload = this.id;
    try {
      await this.#put(item, turn);
      item.state = this.id === upload ? "sent" : "waiting";
      this.#well();
    } catch (error) {
      Object.assign(item, { state: "waiting", loaded: 0 });
      if (this.turn !== turn) return;
      const refused = error instanceof Refused ? error : new Refused("file", String(error));
      if (refused.kind === "file" || (["again", "server"].includes(refused.kind) && ++item.tries >= TRIES_OF_A_FILE)) {
        Object.assign(item, { state: "failed", error: refused.detail, unreadable: refused.unreadable, status: refused.status });
      } else if (refused.kind === "closed") {
        if (this.id === upload) {
          this.forget(); // it expired: everything is sent again into a new one
          this.hold = this.#until(() => this.#open()).finally(() => (this.hold = null));
        }
        await this.hold;
      } else {
        await this.#mend(refused);
      }
    }
  }

  async #put(item, turn) {
    let digest;
    try {
      digest = await sha256(item.file);
    } catch {
      throw Object.assign(new Refused("file"), { unreadable: true });
    }
    if (this.turn !== turn) throw new Refused("lost");
    try {
      await this.#transfer(item, digest);
    } catch (error) {
      // A file that vanished looks like a lost connection to the browser; tell them apart.
      const readable = await item.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
      throw readable ? error : Object.assign(new Refused("file"), { unreadable: true });
    }
  }

  #transfer(item, digest) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let silence;
      const alive = () => {
        clearTimeout(silence);
        silence = setTimeout(() => request.abort(), SILENCE_MS);
      };
      const over = (settle, value) => {
        clearTimeout(silence);
        this.running.delete(request);
        settle(value);
      };
      request.open("PUT", `${this.address}/${this.id}/files?path=${encodeURIComponent(item.path)}`);
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.setRequestHeader("X-CSRFToken", this.token);
      if (digest) request.setRequestHeader("X-Content-SHA256", digest);
      request.upload.onprogress = (event) => {
        alive();
        item.loaded = event.loaded;
        this.changed();
      };
      request.onload = () => {
        if (request.status === 200) over(resolve);
        else over(reject, refusal(request.status, request.responseText, (name) => request.getResponseHeader(name)));
      };
      request.onerror = request.onabort = () => over(reject, new Refused("lost"));
      this.running.add(request);
      alive();
      request.send(item.file);
    });
  }

  /** A call with a small JSON body or none; throws Refused. */
  async #call(method, address, body) {
    let answer, text;
    try {
      answer = await fetch(address, {
        method,
        headers: { Accept: "application/json", "X-CSRFToken": this.token, ...(body && { "Content-Type": "application/json" }) },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(SILENCE_MS),
      });
      text = await answer.text();
    } catch {
      throw new Refused("lost");
    }
    if (!answer.ok) throw refusal(answer.status, text, (name) => answer.headers.get(name));
    return text ? JSON.parse(text) : null;
  }

  /** Repeats a call until it succeeds, the user stops it, or it makes no sense. */
  async #until(call) {
    for (;;) {
      try {
        const value = await call();
        this.#well();
        return value;
      } catch (error) {
        if (!(error instanceof Refused) || !["lost", "busy", "token"].includes(error.kind)) throw error;
        if (!this.active) throw error;
        await this.#mend(error);
        if (!this.active) throw error;
      }
    }
  }

  /** Waits for the connection, renews the token, or stops and leaves it to the user. */
  async #mend(refused) {
    if (refused.kind === "token" && this.tries++ < 3) {
      this.hold ??= this.renew().finally(() => (this.hold = null));
      await this.hold;
    } else if (["lost", "busy", "again", "server"].includes(refused.kind)) {
      this.hold ??= this.#wait(refused).finally(() => (this.hold = null));
      await this.hold;
    } else {
      this.#stop(refused);
    }
  }

  async #wait(refused) {
    this.trouble = refused;
    this.waitS = refused.waitS || Math.min(LONGEST_WAIT_S, 2 ** this.tries++);
    const back = () => (this.waitS = 0);
    addEventListener("online", back);
    while (this.waitS > 0 && this.active) {
      this.changed();
      await new Promise((resolve) => setTimeout(resolve, Math.min(1, this.waitS) * 1000));
      this.waitS = Math.max(0, this.waitS - 1);
    }
    removeEventListener("online", back);
    this.changed();
  }

  /** Fetches a fresh security token: after a new login the old one is of no use. Returns whether there is one. */
  async renew() {
    try {
      const answer = await fetch(this.page, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(SILENCE_MS) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.redirected && answer.ok) {
        this.token = page.querySelector("meta[name=csrf-token]").content;
        return true;
      }
      this.#stop(new Refused("login"));
    } catch {
      this.trouble = new Refused("lost");
    }
    return false;
  }

  #well() {
    this.tries = 0;
    if (this.trouble && this.active) this.trouble = null;
  }

  #stop(refused) {
    if (!this.active) return;
    this.state = "stopped";
    this.trouble = refused instanceof Refused ? refused : new Refused("server", String(refused));
    if (this.trouble.kind === "closed") this.forget();
    this.#abort();
    this.changed();
  }

  #abort() {
    this.turn++;
    for (const request of [...this.running]) request.abort();
  }
}
