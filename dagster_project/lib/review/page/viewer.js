// The photograph: loaded and decoded before it is asked for, shown after a neutral gap, zoomed.

const AHEAD = 3;
const BEHIND = 1;
const HOLD_MS = 150;
const SETTLE_MS = 60;

class Viewer {
  constructor(stage, note, gapMs) {
    this.stage = stage;
    this.note = note;
    this.gapMs = gapMs;
    this.slides = new Map();
    this.current = null;
    this.turn = 0;
    this.view = { z: 1, x: 0, y: 0 };
    this.pointer = null;
    this.last = null;
    this.held = false;
    this.listen();
  }

  // Show paths[at] and have its neighbours ready; `onShown(broken)` when it is to be seen.
  show(paths, at, onShown) {
    const turn = (this.turn += 1);
    this.hide();
    this.release(paths, at);
    const slide = this.slide(paths[at]);
    const begun = performance.now();
    const due = () => {
      if (turn !== this.turn) return;
      this.current = slide;
      slide.img.classList.add("current");
      slide.img.removeAttribute("aria-hidden");
      this.say(slide.state === "broken" ? "missing" : "");
      onShown(slide.state === "broken");
      // only when it is painted: what is loaded next must not hold that up
      const ahead = () => turn === this.turn && this.near(paths, at).forEach((path) => this.slide(path));
      requestAnimationFrame(() => setTimeout(ahead, SETTLE_MS));
    };
    if (slide.state === "waiting") {
      const late = setTimeout(() => turn === this.turn && this.say("loading"), 300);
      slide.ready.then(() => {
        clearTimeout(late);
        setTimeout(due, Math.max(0, this.gapMs - (performance.now() - begun)));
      });
    } else if (this.gapMs > 0) setTimeout(due, this.gapMs);
    else due();
  }

  hide() {
    this.reset();
    this.current?.img.classList.remove("current");
    this.current?.img.setAttribute("aria-hidden", "true");
    this.current = null;
    this.say("");
  }

  say(what) {
    const path = this.current ? this.current.path : "";
    this.note.textContent = {
      "": "",
      loading: "Loading the image",
      missing: `This image cannot be shown (${path}). Leave it with the right arrow key, and tell the sender.`,
    }[what];
  }

  // Few are kept in memory: a photograph of 12 megapixels takes 48 MB once it is decoded.
  near(paths, at) {
    return paths.slice(Math.max(0, at - BEHIND), at + AHEAD + 1);
  }

  release(paths, at) {
    const near = new Set(this.near(paths, at));
    for (const [path, slide] of this.slides) {
      if (near.has(path)) continue;
      slide.img.remove();
      slide.img.removeAttribute("src");
      this.slides.delete(path);
    }
  }

  slide(path) {
    if (this.slides.has(path)) return this.slides.get(path);
    const img = document.createElement("img");
    img.alt = "photograph to judge";
    img.setAttribute("aria-hidden", "true");
    img.draggable = false;
    img.decoding = "sync"; // never seen half: by then it is decoded
    img.src = path.split("/").map(encodeURIComponent).join("/");
    const slide = { path, img, state: "waiting", ready: null };
    slide.ready = img.decode().then(
      () => {
        slide.state = "ready";
        // below the cover, where the browser scales and draws it before its turn
        if (this.slides.get(path) === slide) this.stage.append(img);
      },
      () => (slide.state = "broken"),
    );
    this.slides.set(path, slide);
    return slide;
  }

  // ---- zoom: scroll or pinch at the pointer and drag; or hold, and it is back when let go

  listen() {
    const { stage } = this;
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => this.up());
    stage.addEventListener("dblclick", () => this.reset());
    window.addEventListener("resize", () => this.reset());
  }

  // One pixel of the photograph for one of the screen, but at least twice what fits.
  closeUp() {
    const { naturalWidth, naturalHeight } = this.current.img;
    const { width, height } = this.stage.getBoundingClientRect();
    const fit = Math.min(width / naturalWidth, height / naturalHeight);
    return Math.max(2, 1 / (fit * window.devicePixelRatio));
  }

  place(z, x, y) {
    const { width, height } = this.stage.getBoundingClientRect();
    const within = (value, size) => Math.min(0, Math.max(size * (1 - z), value));
    this.view = { z, x: within(x, width), y: within(y, height) };
    if (!this.current) return;
    const { style } = this.current.img;
    style.transform = z === 1 ? "" : `translate(${this.view.x}px, ${this.view.y}px) scale(${z})`;
    this.stage.classList.toggle("zoomed", z > 1);
  }

  reset() {
    clearTimeout(this.pointer?.timer);
    this.pointer = null;
    this.held = false;
    this.place(1, 0, 0);
  }

  at(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  wheel(event) {
    event.preventDefault();
    if (!this.current || this.held) return;
    const { z, x, y } = this.view;
    const [px, py] = this.at(event);
    const lines = event.deltaMode === 1 ? 30 : 1;
    const step = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
    const next = Math.min(Math.max(1, z * step), 2 * this.closeUp() + 2);
    this.place(next, px - ((px - x) * next) / z, py - ((py - y) * next) / z);
  }

  down(event) {
    if (event.button !== 0 || !this.current) return;
    this.stage.setPointerCapture(event.pointerId);
    const [x, y] = this.at(event);
    this.last = [x, y];
    this.pointer = { x, y, from: { ...this.view } };
    if (this.view.z === 1) this.pointer.timer = setTimeout(() => this.hold(true), HOLD_MS);
  }

  move(event) {
    const [x, y] = this.at(event);
    this.last = [x, y];
    if (this.held) this.hold(true);
    else if (this.pointer && this.pointer.from.z > 1) {
      const { from } = this.pointer;
      this.place(from.z, from.x + x - this.pointer.x, from.y + y - this.pointer.y);
    }
  }

  up() {
    if (this.held) this.hold(false);
    clearTimeout(this.pointer?.timer);
    this.pointer = null;
  }

  // Close up at the pointer while held: what lies under it stays under it.
  hold(on) {
    if (!this.current) return;
    if (!on) {
      this.reset();
      return;
    }
    this.held = true;
    const { width, height } = this.stage.getBoundingClientRect();
    const [x, y] = this.last ?? [width / 2, height / 2];
    const z = this.closeUp();
    this.place(z, x * (1 - z), y * (1 - z));
  }
}
