// Keeping answers in this browser, and one window at a time. Whether it works is found out, not assumed.

class Keeper {
  constructor(name, storage = window.localStorage) {
    this.name = name;
    this.storage = storage;
    this.last = null;
  }

  // What was kept before, as text; null where there is nothing.
  load() {
    this.last = this.storage.getItem(this.name);
    return this.last;
  }

  // "kept"; "again" where it had been cleared meanwhile; "stolen" where another window wrote; "failed".
  save(text) {
    try {
      const there = this.storage.getItem(this.name);
      if (this.last !== null && there !== null && there !== this.last) return "stolen";
      this.storage.setItem(this.name, text);
      if (this.storage.getItem(this.name) !== text) return "failed";
      const cleared = this.last !== null && there === null;
      this.last = text;
      return cleared ? "again" : "kept";
    } catch {
      return "failed";
    }
  }

  clear() {
    this.storage.removeItem(this.name);
    this.last = null;
  }
}

// A keeper, or null where this browser keeps nothing for pages opened from a disk.
function keeperFor(name) {
  try {
    const keeper = new Keeper(`${name}/try`);
    const works = keeper.save("1") === "kept";
    keeper.clear();
    return works ? new Keeper(name) : null;
  } catch {
    return null;
  }
}

// Resolves to true where no other window has this packet open (or none can be asked). `steal` takes it
// from the other window, whose `onLost` is then called.
function soleWindow(name, onLost, steal = false) {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    const held = (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    };
    navigator.locks
      .request(name, steal ? { steal: true } : { ifAvailable: true }, held)
      .catch((error) => (error.name === "AbortError" ? onLost() : resolve(true)));
  });
}
