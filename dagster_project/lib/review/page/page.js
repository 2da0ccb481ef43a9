// The screens and the keys. Everything shown of the packet goes through textContent: it is data.

const $ = (id) => document.getElementById(id);
const SHEETS = ["start", "pause", "between", "end", "stopped", "broken"];
const OFFER_EVERY = 25;
const plain = (name) => name.replaceAll("_", " ");

class Page {
  constructor(packet) {
    this.packet = packet;
    this.answers = new Answers(packet);
    this.name = `image-review/${packet.packet}/${packet.reviewer}`;
    this.keeper = keeperFor(this.name);
    this.viewer = new Viewer($("stage"), $("note"), packet.gap_ms);
    this.paths = packet.presentations.map((one) => one.path);
    this.choices = [
      ...packet.classes.map((one) => ({ ...one, key: null, shown: plain(one.name) })),
      { name: UNSURE, folded: "unsure", key: "u", shown: "unsure", description: "cannot decide between classes" },
      { name: NOT_USABLE, folded: "not usable", key: "n", shown: "not usable", description: "no skin, or it cannot be judged" },
    ];
    this.left = new Set();
    this.at = 0;
    this.since = null;
    this.matches = [];
    this.marked = 0;
    this.alone = false;
  }

  get one() {
    return this.packet.presentations[this.at];
  }

  // The first image without an answer; one past the last where there is none.
  get frontier() {
    const all = this.packet.presentations;
    const at = all.findIndex((one) => this.answers.label(one.id) === null && !this.left.has(one.id));
    return at < 0 ? all.length : at;
  }

  // ---- beginning

  async open(steal = false) {
    this.listen();
    this.alone = await soleWindow(this.name, () => this.stop(), steal);
    if (!this.alone) {
      this.stop();
      return;
    }
    this.restore();
    this.screen("start");
  }

  restore() {
    const { keeper, packet, answers } = this;
    let problem = keeper ? "" : "This browser does not keep answers for pages opened from a disk. They live in " +
      "this window only: download a backup before you close it, and load it when you come back.";
    try {
      const text = keeper?.load();
      if (text) answers.restore(text);
    } catch (error) {
      problem = `What this browser had kept cannot be read: ${error.message}. Load a backup if you have one.`;
    }
    $("warning").textContent = problem;
    $("warning").hidden = !problem;
    $("who").textContent = `${packet.reviewer}: ${count(answers.real.length, "image")}` +
      (this.nPractice ? `, after ${count(this.nPractice, "practice case")}` : "");
    this.progress();
  }

  get nPractice() {
    return this.answers.all.length - this.answers.real.length;
  }

  progress() {
    const { answers } = this;
    const done = answers.answered;
    $("progress").textContent = done
      ? `${done} of ${answers.real.length} answered; you go on where you stopped.`
      : "Nothing is answered yet. Answered some before, elsewhere? Load the backup below.";
    $("begin").firstChild.textContent = done ? "Go on " : "Start ";
    const loose = done - answers.exported;
    $("save-csv").classList.toggle("primary", loose > 0);
    $("unsaved").textContent = loose > 0
      ? `${count(loose, "answer")} not yet in a downloaded file. A half-finished file is welcome.`
      : "A half-finished file is welcome, too.";
    $("end-words").textContent = `${done} of ${answers.real.length} images answered.` +
      (done < answers.real.length ? " The others could not be shown." : "");
  }

  screen(name) {
    document.body.dataset.screen = name;
    for (const id of SHEETS) $(id).hidden = id !== name;
    $("review").inert = name !== "review";
    $("classes").hidden = true;
    const files = ["start", "pause", "end"].includes(name);
    $("files").hidden = !files;
    if (files) {
      $(name).append($("files"));
      $("file-said").textContent = "";
      this.progress();
    }
    const first = { review: "#field", end: "#save-csv" }[name] ?? `#${name} button`;
    document.querySelector(first)?.focus();
  }

  stop() {
    this.tick();
    this.alone = false;
    this.viewer.hide();
    this.screen("stopped");
  }

  // ---- one image

  go(at) {
    this.tick();
    if (at >= this.paths.length) {
      this.viewer.hide();
      this.at = this.paths.length - 1;
      this.screen("end");
      return;
    }
    this.at = at;
    this.ready = false;
    document.body.dataset.shown = "";
    this.field("");
    this.comment(false);
    this.draw();
    this.screen("review");
    this.viewer.show(this.paths, at, (broken) => {
      this.broken = broken;
      this.ready = true;
      this.since = performance.now();
      document.body.dataset.shown = this.one.id;
    });
  }

  // Count the time in view up to now.
  tick() {
    if (this.since === null) return;
    this.answers.row(this.one.id).ms += performance.now() - this.since;
    this.since = null;
  }

  draw() {
    const { answers, one } = this;
    $("counter").textContent = one.practice
      ? `practice ${this.at + 1} of ${this.nPractice}`
      : `${this.at - this.nPractice + 1} / ${answers.real.length}`;
    $("counter").classList.toggle("practice", one.practice);
    $("facts").hidden = one.shown.length === 0;
    $("facts").textContent = one.shown.map(([name, value]) => `${plain(name)}: ${value}`).join("   \u00b7   ");
    const pace = answers.pace();
    $("pace").textContent = pace
      ? `${Math.max(1, Math.round(pace.each / 1000))} s an image \u00b7 ${Math.ceil(pace.left / 60000)} min left`
      : "";
    this.slots = answers.recents();
    $("recents").replaceChildren(...this.slots.map((name, i) => this.slot(name, i)));
    this.drawGiven();
    this.offer();
  }

  drawGiven() {
    const row = this.answers.rows.get(this.one.id);
    const level = LEVELS.find(([, value]) => value === row?.confidence);
    const sure = row?.confidence ? `confidence ${level ? level[0] : row.confidence}` : "";
    const given = row?.label ? `Your answer: ${plain(row.label)}` : "";
    $("given").textContent = [given, sure, row?.comment && `comment: ${row.comment}`].filter(Boolean).join(" \u00b7 ");
    $("field").placeholder = row?.label ? "Type to change it; Enter goes on" : "Type the class";
  }

  slot(name, i) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const digit = document.createElement("kbd");
    const text = document.createElement("span");
    digit.textContent = i + 1;
    text.textContent = plain(name);
    button.title = plain(name);
    button.type = "button";
    button.tabIndex = -1;
    button.append(digit, text);
    button.addEventListener("click", () => this.submit(name));
    item.append(button);
    return item;
  }

  say(words, warn = false) {
    $("said").textContent = words;
    $("said").classList.toggle("warn", warn);
  }

  // What is said below the field when an image comes: trouble, a file to save, the keys while practising.
  offer() {
    const loose = this.answers.answered - this.answers.exported;
    const due = loose >= OFFER_EVERY && loose % OFFER_EVERY < 3;
    if (this.trouble) this.say(this.trouble, true);
    else if (this.one.practice) this.say("u unsure   n not usable   ? classes   ; comment");
    else this.say(due ? `Ctrl S puts ${loose} answers into a file` : "");
  }

  // ---- answering

  submit(label) {
    if (!this.ready) return;
    if (this.broken) {
      this.say("This image cannot be shown: leave it with the right arrow key", true);
      return;
    }
    const wasPractice = this.one.practice;
    this.tick();
    this.answers.give(this.one.id, label);
    this.keep();
    if (!this.alone) return;
    const next = this.frontier;
    if (wasPractice && next === this.nPractice && this.answers.answered === 0) {
      this.viewer.hide();
      this.at = next;
      this.screen("between");
    } else this.go(next);
  }

  keep() {
    const how = this.keeper ? this.keeper.save(this.answers.backup()) : "failed";
    this.trouble = {
      again: "The answers kept in this browser had been cleared; all of them are kept again",
      failed: "Not kept by this browser: download a backup (Pause) before you close this window",
    }[how];
    this.kept = how !== "failed";
    if (how === "stolen") this.stop();
  }

  step(by) {
    const to = this.at + by;
    if (by > 0 && this.at >= this.frontier) {
      if (!this.broken) {
        this.say("Every image needs an answer before the next: u Enter if you cannot tell", true);
        return;
      }
      this.left.add(this.one.id);
      this.go(this.frontier);
    } else if (to >= 0) this.go(by > 0 && to >= this.frontier ? this.frontier : to);
  }

  confidence() {
    const row = this.answers.row(this.one.id);
    const at = LEVELS.findIndex(([, value]) => value === row.confidence);
    row.confidence = LEVELS[at + 1]?.[1] ?? null;
    this.keep();
    this.drawGiven();
  }

  // ---- the field and what it matches

  field(text) {
    $("field").value = text;
    this.match();
  }

  match() {
    const typed = $("field").value;
    this.matches = matching(typed, this.choices);
    const some = folded(typed) !== "";
    $("choices").hidden = !some;
    $("field").setAttribute("aria-expanded", String(some));
    $("choices").replaceChildren(...this.matches.map((choice, i) => this.option(choice, `choice-${i}`, () => this.submit(choice.name))));
    if (some && !this.matches.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "No class has this in its name. ? shows all of them.";
      $("choices").append(none);
    }
    this.mark(0);
  }

  option(choice, id, chosen) {
    const item = document.createElement("li");
    item.id = id;
    item.role = "option";
    item.textContent = choice.shown;
    if (choice.key) {
      const key = document.createElement("kbd");
      key.textContent = choice.key;
      item.append(" ", key);
    }
    item.addEventListener("mousedown", (event) => event.preventDefault());
    item.addEventListener("click", chosen);
    return item;
  }

  mark(at) {
    this.marked = this.matches.length ? (at + this.matches.length) % this.matches.length : 0;
    const list = $("classes").hidden ? $("choices") : $("found");
    const marked = this.matches.length ? list.children[this.marked] : null;
    for (const item of list.children) item.setAttribute("aria-selected", String(item === marked));
    marked?.scrollIntoView({ block: "nearest" });
    const box = $("classes").hidden ? $("field") : $("search");
    if (marked) box.setAttribute("aria-activedescendant", marked.id);
    else box.removeAttribute("aria-activedescendant");
  }

  comment(open) {
    $("comment").hidden = !open;
    $("answer").hidden = open;
    $("comment").value = open ? this.answers.row(this.one.id).comment : "";
    $(open ? "comment" : "field").focus();
  }

  // ---- the list of classes

  list(open) {
    $("classes").hidden = !open;
    this.field("");
    $("search").value = "";
    if (open) this.find();
    $(open ? "search" : "field").focus();
  }

  find() {
    const typed = folded($("search").value);
    const named = new Set(matching(typed, this.choices));
    const told = (choice) => named.has(choice) || folded(choice.description).includes(typed);
    this.matches = this.choices
      .filter((choice) => !typed || told(choice))
      .sort((a, b) => named.has(b) - named.has(a) || (a.folded < b.folded ? -1 : 1));
    $("found").replaceChildren(...this.matches.map((choice, i) => {
      const item = this.option(choice, `found-${i}`, () => this.take(choice));
      const more = document.createElement("small");
      more.textContent = choice.description;
      item.append(more);
      return item;
    }));
    this.mark(0);
  }

  take(choice) {
    this.list(false);
    this.field(choice.shown);
  }

  // ---- files

  download(text, ending, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `review_${this.packet.packet.slice(0, 8)}_${this.packet.reviewer}${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    return `${link.download} is in your downloads folder.`;
  }

  saveCsv() {
    // the mark at the beginning is what makes Excel read accents rightly
    const words = this.download(`\uFEFF${this.answers.csv()}`, ".csv", "text/csv");
    this.answers.exported = this.answers.answered;
    this.keep();
    this.told(words);
    if (document.body.dataset.screen === "end") $("save-timing").focus();
  }

  told(words) {
    this.progress();
    $("file-said").textContent = words;
    if (document.body.dataset.screen === "review") this.say(words);
  }

  async load(file) {
    try {
      const words = this.answers.add(await file.text(), file.name);
      this.keep();
      this.told(words);
    } catch (error) {
      this.told(`${file.name} was not loaded: ${error.message}. Nothing was changed.`);
    }
    if (document.body.dataset.screen === "end" && this.frontier < this.paths.length) this.screen("start");
  }

  clear() {
    const button = $("clear");
    if (!button.dataset.asked) {
      button.dataset.asked = "yes";
      button.textContent = `Really remove ${count(this.answers.answered, "answer")}? Click again`;
      return;
    }
    this.keeper?.clear();
    this.kept = true;
    this.answers.rows.clear();
    window.location.reload();
  }

  // ---- events

  listen() {
    if (this.listening) return;
    this.listening = true;
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keyup", (event) => event.key === " " && this.viewer.held && this.viewer.hold(false));
    document.addEventListener("visibilitychange", () => document.hidden && this.pause());
    window.addEventListener("beforeunload", (event) => {
      const loose = this.answers.answered > this.answers.exported;
      if (this.kept === false && loose && this.alone) event.preventDefault();
    });
    $("field").addEventListener("input", () => this.match());
    $("search").addEventListener("input", () => this.find());
    $("load").addEventListener("change", (event) => {
      if (event.target.files[0]) this.load(event.target.files[0]);
      event.target.value = "";
    });
    const clicks = {
      begin: () => this.go(this.frontier), resume: () => this.resume(), onward: () => this.go(this.frontier),
      back: () => this.go(this.paths.length - 1), steal: () => this.open(true), "pause-open": () => this.pause(),
      "save-csv": () => this.saveCsv(), clear: () => this.clear(),
      "save-timing": () => this.told(this.download(this.answers.timing(), "_timing.json", "application/json")),
      "save-backup": () => this.told(this.download(this.answers.backup(), "_backup.json", "application/json")),
    };
    for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
    $("stage").addEventListener("click", () => $("field").focus());
  }

  pause() {
    if (document.body.dataset.screen !== "review") return;
    this.tick();
    this.keep();
    this.viewer.hide();
    if (this.alone) this.screen("pause");
  }

  resume() {
    this.go(this.at);
  }

  key(event) {
    if (event.isComposing) return;
    const screen = document.body.dataset.screen;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s" && !["stopped", "broken"].includes(screen)) {
      event.preventDefault();
      if (!event.repeat) this.saveCsv();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (screen !== "review") this.sheetKey(event, screen);
    else if (!$("classes").hidden) this.listKey(event);
    else if (!$("comment").hidden) this.commentKey(event);
    else if (event.target.tagName !== "BUTTON" || event.key.length === 1) this.reviewKey(event);
  }

  sheetKey(event, screen) {
    const act = { Enter: document.activeElement === document.body, Escape: screen === "pause", ".": screen === "pause" };
    if (!act[event.key]) return;
    event.preventDefault();
    $(screen).querySelector("button").click();
  }

  listKey(event) {
    const acts = {
      Escape: () => this.list(false),
      "?": () => this.list(false),
      Enter: () => this.matches.length && this.take(this.matches[this.marked]),
      ArrowDown: () => this.mark(this.marked + 1),
      ArrowUp: () => this.mark(this.marked - 1),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  commentKey(event) {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    if (event.key === "Enter") {
      this.answers.row(this.one.id).comment = oneLine($("comment").value);
      this.keep();
      this.drawGiven();
    }
    this.comment(false);
  }

  // What a key does: some always, some only while nothing is typed, every other one types.
  reviewKey(event) {
    const field = $("field");
    const once = (act) => () => !event.repeat && act();
    const always = {
      Enter: once(() => this.enter()),
      Escape: () => (field.value ? this.field("") : this.viewer.reset()),
      ArrowDown: () => this.mark(this.marked + 1),
      ArrowUp: () => this.mark(this.marked - 1),
      "+": once(() => this.confidence()),
      "=": once(() => this.confidence()),
      ";": once(() => this.comment(true)),
      "?": once(() => this.list(true)),
    };
    const empty = {
      Backspace: once(() => this.step(-1)),
      ArrowLeft: once(() => this.step(-1)),
      ArrowRight: once(() => this.step(1)),
      0: () => this.viewer.reset(),
      ".": once(() => this.pause()),
      " ": () => this.viewer.hold(true),
    };
    for (let i = 1; i <= SLOTS; i += 1) empty[i] = once(() => this.slots[i - 1] && this.submit(this.slots[i - 1]));
    const typed = { Tab: () => this.mark(this.marked + (event.shiftKey ? -1 : 1)) };
    const act = always[event.key] ?? (field.value ? typed : empty)[event.key];
    if (act) {
      event.preventDefault();
      act();
    } else if (event.key.length === 1) field.focus();
  }

  enter() {
    if ($("field").value) {
      if (this.matches.length) this.submit(this.matches[this.marked].name);
    } else if (this.answers.label(this.one.id) !== null) this.go(Math.min(this.at + 1, this.frontier));
  }
}

if (window.REVIEW_PACKET) new Page(window.REVIEW_PACKET).open();
else {
  document.body.dataset.screen = "broken";
  $("broken").hidden = false;
}
