// The answers of one reviewer to one packet: what they are, and the files they leave and return in.

const COLUMNS = ["image_uuid", "image_path", "reviewer", "label", "confidence", "comment"];
const UNSURE = "unsure";
const NOT_USABLE = "not_usable";
const LEVELS = [["high", "0.9"], ["medium", "0.6"], ["low", "0.3"]];
const SLOTS = 9;
const PACE_OF = 20;

class Answers {
  // rows: image_uuid -> {label, confidence, comment, ms, answers}; a row may hold a comment only.
  constructor(packet) {
    this.packet = packet;
    this.all = packet.presentations;
    this.real = this.all.filter((one) => !one.practice);
    this.labels = new Set([...packet.classes.map((one) => one.name), UNSURE, NOT_USABLE]);
    this.rows = new Map();
    this.exported = 0;
  }

  row(id) {
    if (!this.rows.has(id)) {
      this.rows.set(id, { label: null, confidence: null, comment: "", ms: 0, answers: 0 });
    }
    return this.rows.get(id);
  }

  label(id) {
    return this.rows.get(id)?.label ?? null;
  }

  give(id, label) {
    const row = this.row(id);
    row.label = label;
    row.answers += 1;
    if (label === UNSURE || label === NOT_USABLE) row.confidence = null;
  }

  get answered() {
    return this.real.filter((one) => this.label(one.id) !== null).length;
  }

  // Digits: classes keep their place; where nine are taken, a new one gets the place of the one used
  // least, of equals the one not used for longest. Counted in the order of the images.
  recents() {
    const slots = [];
    const uses = new Map();
    this.all.forEach((one, at) => {
      const label = this.label(one.id);
      if (label === null || label === UNSURE || label === NOT_USABLE) return;
      uses.set(label, { n: (uses.get(label)?.n ?? 0) + 1, last: at });
      if (slots.includes(label)) return;
      const weaker = (a, b) => uses.get(a).n - uses.get(b).n || uses.get(a).last - uses.get(b).last;
      const place = slots.length < SLOTS ? slots.length : slots.indexOf([...slots].sort(weaker)[0]);
      slots[place] = label;
    });
    return slots;
  }

  // Median milliseconds of the newest answers, and how long the rest takes at that pace.
  pace() {
    const timed = this.real.map((one) => this.rows.get(one.id)).filter((row) => row?.label && row.ms);
    const newest = timed.slice(-PACE_OF).map((row) => row.ms).sort((a, b) => a - b);
    if (newest.length < 5) return null;
    const half = newest.length >> 1;
    const each = newest.length % 2 ? newest[half] : (newest[half - 1] + newest[half]) / 2;
    return { each, left: each * (this.real.length - this.answered) };
  }

  csv() {
    const lines = this.real.map((one) => {
      const row = this.rows.get(one.id);
      return [
        one.id, one.path, this.packet.reviewer, row?.label, row?.confidence, defused(row?.comment ?? ""),
      ];
    });
    return [COLUMNS, ...lines].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
  }

  // Milliseconds in view until the (last) answer, pauses left out; null where there is no answer.
  timing() {
    const presentations = this.real.map((one) => {
      const row = this.rows.get(one.id);
      const ms = row?.label ? Math.round(row.ms) : null;
      return { image_uuid: one.id, ms, answers: row?.answers ?? 0 };
    });
    const { packet, reviewer } = this.packet;
    return `${JSON.stringify({ packet, reviewer, presentations }, null, 1)}\n`;
  }

  backup() {
    const { packet, reviewer } = this.packet;
    const rows = this.all
      .filter((one) => this.rows.has(one.id))
      .map((one) => ({ image_uuid: one.id, ...this.rows.get(one.id), ms: Math.round(this.row(one.id).ms) }));
    return JSON.stringify({ format: "review backup 1", packet, reviewer, exported: this.exported, rows });
  }

  // Put in place what was kept by this page; throws a sentence where it is something else.
  restore(text) {
    const kept = fromBackup(text, this.packet);
    this.check(kept.rows);
    this.rows = new Map(kept.rows.map(({ image_uuid: id, ...row }) => [id, row]));
    this.exported = Number.isInteger(kept.exported) ? kept.exported : 0;
  }

  // Add what a backup or a returned CSV holds; what is answered here already stays. Says what it did.
  add(text, name) {
    const found = text.trimStart().startsWith("{")
      ? fromBackup(text, this.packet).rows
      : fromCsv(text, name, this.packet);
    this.check(found);
    let added = 0, same = 0, kept = 0;
    for (const { image_uuid: id, ...row } of found) {
      if (!row.label && !row.comment) continue;
      const here = this.rows.get(id);
      if (here?.label && row.label && here.label !== row.label) kept += 1;
      else if (here?.label) same += 1;
      else {
        this.rows.set(id, { ...row, comment: row.comment || here?.comment || "" });
        added += row.label ? 1 : 0;
      }
    }
    return `${count(added, "answer")} added from ${name}. ${same} were here already` +
      (kept ? `; ${kept} differ from what is here, and what is here was kept.` : ".");
  }

  check(rows) {
    const ids = new Set(this.all.map((one) => one.id));
    const seen = new Set();
    for (const row of rows) {
      if (!ids.has(row.image_uuid)) throw new Error("it names an image that is not in this packet");
      if (seen.has(row.image_uuid)) throw new Error("it names an image twice");
      seen.add(row.image_uuid);
      if (row.label !== null && !this.labels.has(row.label)) {
        throw new Error(`it holds "${row.label}", which is not a class of this packet`);
      }
      if (row.confidence !== null && !(Number(row.confidence) >= 0 && Number(row.confidence) <= 1)) {
        throw new Error(`it holds the confidence "${row.confidence}", which is not a number from 0 to 1`);
      }
    }
  }
}

// A comment as one line without control characters, whatever was pasted.
function oneLine(text) {
  return text.replace(/\p{Cc}+/gu, " ").trim();
}

// A spreadsheet must not take a comment for a formula: an apostrophe before it, as Excel itself does.
function defused(comment) {
  return /^[=+\-@]/u.test(comment) ? `'${comment}` : comment;
}

function cell(value) {
  const text = value ?? "";
  return /[",\r\n]|^\s|\s$/u.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function fromBackup(text, packet) {
  let kept;
  try {
    kept = JSON.parse(text);
  } catch {
    throw new Error("it is cut off or damaged");
  }
  if (kept?.format !== "review backup 1" || !Array.isArray(kept.rows)) {
    throw new Error("it is not a backup of this page");
  }
  if (kept.packet !== packet.packet) throw new Error("it belongs to another packet");
  if (kept.reviewer !== packet.reviewer) throw new Error(`it belongs to the reviewer ${kept.reviewer}`);
  const rows = kept.rows.map((row) => ({
    image_uuid: String(row.image_uuid),
    label: row.label === null ? null : String(row.label),
    confidence: row.confidence === null ? null : String(row.confidence),
    comment: oneLine(String(row.comment ?? "")),
    ms: Number(row.ms) || 0,
    answers: Number(row.answers) || 0,
  }));
  return { rows, exported: kept.exported };
}

function fromCsv(text, name, packet) {
  const named = /^review_([A-Za-z0-9]{8})_/u.exec(name);
  if (named && named[1] !== packet.packet.slice(0, 8)) throw new Error("it belongs to another packet");
  const [header = [], ...records] = csvRecords(text.replace(/^\uFEFF/u, ""));
  const missing = COLUMNS.filter((column) => !header.includes(column));
  if (missing.length) throw new Error(`it has no column ${missing.join(", ")}`);
  return records.map((record, i) => {
    if (record.length !== header.length) throw new Error(`its row ${i + 2} is cut off or damaged`);
    const at = (column) => record[header.indexOf(column)].trim();
    if (at("reviewer") !== packet.reviewer) throw new Error(`it belongs to the reviewer ${at("reviewer")}`);
    return {
      image_uuid: at("image_uuid"),
      label: at("label") || null,
      confidence: at("confidence") || null,
      comment: oneLine(at("comment")).replace(/^'(?=[=+\-@])/u, ""),
      ms: 0,
      answers: at("label") ? 1 : 0,
    };
  });
}

// Quoted cells as in RFC 4180; commas, or semicolons where a spreadsheet has put them.
function csvRecords(text) {
  const comma = /^[^\r\n,]*;/u.test(text) ? ";" : ",";
  const records = [];
  let record = [], field = "", quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const sign = text[i];
    if (quoted && sign === '"' && text[i + 1] === '"') field += text[(i += 1)];
    else if (sign === '"' && (quoted || field === "")) quoted = !quoted;
    else if (quoted || !(sign === comma || sign === "\n" || sign === "\r")) field += sign;
    else if (sign === comma) [record, field] = [[...record, field], ""];
    else {
      if (sign === "\r" && text[i + 1] === "\n") i += 1;
      records.push([...record, field]);
      [record, field] = [[], ""];
    }
  }
  if (quoted) throw new Error("it is cut off or damaged");
  if (field || record.length) records.push([...record, field]);
  return records.filter((one) => one.length > 1 || one[0] !== "");
}
