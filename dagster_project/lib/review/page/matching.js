// Finding a class from a few typed letters: by its name alone, never by anything of a model.

// The same as `folded` in Python: case, accents, underscores, hyphens and signs make no difference.
function folded(text) {
  return text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase()
    .replace(/['\u2019]/gu, "")
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim();
}

// Each typed piece begins a word of the name, in the order of the words: "con d" is contact dermatitis.
function beginsWords(query, name) {
  const words = name.split(" ");
  let from = 0;
  for (const piece of query.split(" ")) {
    const at = words.findIndex((word, i) => i >= from && word.startsWith(piece));
    if (at < 0) return false;
    from = at + 1;
  }
  return true;
}

// 0 the whole name or its key, 1 begins the name, 2 begins words of it, 3 is somewhere in it, else -1.
function quality(query, choice) {
  if (choice.folded === query || choice.key === query) return 0;
  if (choice.folded.startsWith(query)) return 1;
  if (beginsWords(query, choice.folded)) return 2;
  const joined = (text) => text.replaceAll(" ", "");
  return joined(choice.folded).includes(joined(query)) ? 3 : -1;
}

// The choices that match, best first, equal ones by alphabet; nothing typed matches nothing.
function matching(typed, choices) {
  const query = folded(typed);
  if (!query) return [];
  return choices
    .map((choice) => ({ choice, rank: quality(query, choice) }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => a.rank - b.rank || (a.choice.folded < b.choice.folded ? -1 : 1))
    .map(({ choice }) => choice);
}
