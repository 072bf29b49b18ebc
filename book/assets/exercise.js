/* Exercises on the page: <compass-exercise> judges a typed number or a chosen option as lossutils.exercises does, from the same
   definition (JSON inside the element); <compass-progress> lists what this browser remembers. Nothing leaves the browser.
   A classic deferred script without dependencies: it works from file://. */
(function () {
  "use strict";
  if (!window.customElements || customElements.get("compass-exercise")) return;

  // lossutils/exercises/sentences.py: VERDICTS, and progress_file.py: STATES.
  const VERDICTS = {
    right: ["✓", "Right"],
    wrong: ["✗", "Not yet"],
    unanswered: ["○", "Open"],
    invalid: ["!", "Not judged"],
  };
  const STATES = { done: "✓", attempted: "✗", open: "○" }; // the furthest first
  const NUMBERED = /^[1-9][0-9]?\.[1-9][0-9]?$/; // registry.py: KEY

  // ---------------------------------------------------------------- reading a number (as in reading.py)
  const SPACE = "[ \\t\\r\\n\\u00a0\\u2009\\u202f]";
  const GROUPED =
    `[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+(?:\\.[0-9]+)?|(?:${SPACE}[0-9]{3})+(?:[.,][0-9]+)?)(?![0-9])`;
  const PLAIN = "(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)";
  const NUMBER = `[+-]?${SPACE}*(?:${GROUPED}|${PLAIN})(?:[eE][+-]?[0-9]+(?![0-9]))?`;
  const ANSWER = new RegExp(`^[≈~=]?${SPACE}*(${NUMBER})(?:${SPACE}*/${SPACE}*(${NUMBER}))?${SPACE}*([^]*)$`);
  const ONE_GROUP = /^[+-]?[1-9][0-9]{0,2},[0-9]{3}(?![0-9,.])/;
  const POWER = new RegExp(`${SPACE}*[×xX*·]${SPACE}*10${SPACE}*\\^${SPACE}*([+-]?)${SPACE}*([0-9]+)`);
  const LONE_POWER = new RegExp(`^([≈~=]?${SPACE}*[+-]?)10\\^${SPACE}*([+-]?)([0-9]+)`);
  const NOT_FINITE = /^[+-]?(?:inf|infinity|nan|∞)$/i;
  const UNIT_WORD = /^[A-Za-z%][^0-9]*$/;
  const SPACES = new RegExp(`${SPACE}+`, "g");
  const ENDS = new RegExp(`^${SPACE}+|${SPACE}+$`, "g");

  function normalUnit(unit) {
    const text = unit.toLowerCase().replace(SPACES, " ").replace(/^ +| +$/g, "");
    return text
      .replaceAll(" per ", "/")
      .replaceAll("percent", "%")
      .split("/")
      .map((part) => part.replace(/^ +| +$/g, ""))
      .map((part) => (part.length > 1 && part.endsWith("s") ? part.slice(0, -1) : part))
      .join("/");
  }

  function toNumber(text, commaGroups) {
    text = text.replace(SPACES, "");
    const commas = text.split(",").length - 1;
    if (commas > 1 || (commas && text.includes(".")) || (commaGroups && ONE_GROUP.test(text))) {
      text = text.replaceAll(",", "");
    }
    return Number(text.replaceAll(",", "."));
  }

  // {numbers: [...]} or {problem, typed}. A comma before three digits can be read in two ways: decimal first.
  function readText(text, unit) {
    text = text.replaceAll("−", "-").replaceAll("–", "-").replace(ENDS, "");
    if (!text) return { problem: "empty" };
    if (NOT_FINITE.test(text)) return { problem: "infinite" };
    const power = POWER.exec(text);
    if (power && text.slice(0, power.index).includes("/")) return { problem: "unread" };
    text = text.replace(POWER, "e$1$2").replace(LONE_POWER, (all, start, sign, digits) => `${start}1e${sign}${digits}`);
    const match = ANSWER.exec(text);
    if (!match || (match[3] && !UNIT_WORD.test(match[3]))) return { problem: "unread" };
    let factor = 1;
    if (match[3]) {
      const typed = normalUnit(match[3]);
      const asked = normalUnit(unit);
      if (typed === "%" && asked !== "%") factor = 100;
      else if (typed !== asked && typed !== asked.split("/")[0]) {
        return { problem: "unit", typed: Array.from(match[3]).slice(0, 24).join("") };
      }
    }
    const numbers = [];
    for (const commaGroups of [false, true]) {
      let value = toNumber(match[1], commaGroups);
      if (match[2] !== undefined) {
        const below = toNumber(match[2], commaGroups);
        if (below === 0) return { problem: "zero" };
        value = value / below;
      }
      value = value / factor;
      if (!Number.isFinite(value)) return { problem: "infinite" };
      if (!numbers.includes(value)) numbers.push(value);
    }
    return { numbers };
  }

  // ---------------------------------------------------------------- judging (as in judging.py)
  function judgeNumber(data, text) {
    const reading = readText(text, data.unit);
    if (reading.problem) {
      const message = data.sentences[reading.problem].split("{typed}").join(reading.typed || "");
      return { verdict: reading.problem === "empty" ? "unanswered" : "invalid", message };
    }
    const [value, width] = data.right;
    if (reading.numbers.some((number) => Math.abs(number - value) <= width)) {
      return { verdict: "right", message: data.praise };
    }
    for (const number of reading.numbers) {
      const found = data.wrong.find(({ zone }) => Math.abs(number - zone[0]) <= zone[1]);
      if (found) return { verdict: "wrong", message: found.message };
    }
    const all = [{ zone: data.right, message: data.sentences.near }, ...data.wrong];
    for (const number of reading.numbers) {
      let best = Infinity;
      let message = null;
      for (const item of all) {
        const distance = Math.abs(number - item.zone[0]);
        if (distance <= item.zone[2] && distance < best) {
          best = distance;
          message = item.message;
        }
      }
      if (message !== null) return { verdict: "wrong", message };
    }
    return { verdict: "wrong", message: data.sentences.otherwise };
  }

  function judgeChoice(data, label) {
    const option = data.options.find((item) => item.label === label);
    if (!option) return { verdict: "unanswered", message: data.sentences.empty };
    return { verdict: option.verdict, message: option.message };
  }

  // As in audit.py. The text is a list of findings, "3b 12k".
  function judgeAudit(data, text) {
    const found = new Map(text.split(" ").filter(Boolean).map((item) => [parseInt(item, 10), item.slice(-1)]));
    if (!found.size) return { verdict: "unanswered", message: data.sentences.empty, notes: [] };
    const counts = { exact: 0, other: 0, false: 0, missed: 0 };
    const notes = [];
    for (const claim of data.claims) {
      const letter = found.get(claim.number);
      const mistaken = claim.charges.length > 0;
      if (letter === undefined) {
        if (mistaken) counts.missed++;
        continue;
      }
      const kind = !mistaken ? "false" : claim.charges.includes(letter) ? "exact" : "other";
      counts[kind]++;
      const said = { exact: claim.because, other: data.sentences.other, false: data.sentences.stands }[kind];
      notes.push([claim.number, said.replace("{because}", () => claim.because).replace("{look}", () => claim.look)]);
    }
    const [exact, other, wrong] = data.points;
    const points = exact * counts.exact + other * counts.other + wrong * counts.false;
    const best = exact * (counts.exact + counts.other + counts.missed);
    let message = data.sentences.score;
    for (const [name, value] of Object.entries({ points, best, ...counts })) {
      message = message.replace(`{${name}}`, String(value).replace("-", "−"));
    }
    const right = points >= data.pass;
    const typical = data.wrong.find(
      ({ accused }) => accused.length === found.size && accused.every((number) => found.has(number))
    );
    const more = right ? data.praise : typical ? typical.message : data.otherwise;
    return { verdict: right ? "right" : "wrong", message: more ? `${message} ${more}` : message, notes };
  }

  // ---------------------------------------------------------------- remembering
  // One JSON text in localStorage: {version: 1, exercises: {"1.2": {state, tries, answer, hints}}}. Where there is no
  // storage (or it is full), the page's memory serves until it is closed.
  const store = (function () {
    const KEY = "compass-progress";
    const listeners = new Set();
    let memory = {};
    let keeps = true;

    function parse(text) {
      const data = JSON.parse(text);
      if (!data || data.version !== 1 || !data.exercises || typeof data.exercises !== "object") throw new Error("damaged");
      const entries = {};
      for (const [key, entry] of Object.entries(data.exercises)) {
        if (!entry || !Object.hasOwn(STATES, entry.state)) throw new Error("damaged");
        entries[key] = {
          state: entry.state,
          tries: Number(entry.tries) || 0,
          answer: typeof entry.answer === "string" ? entry.answer : "",
          hints: Number(entry.hints) || 0,
        };
      }
      return entries;
    }

    function load() {
      if (!keeps) return memory;
      let text = null;
      try {
        text = localStorage.getItem(KEY);
      } catch (error) {
        keeps = false;
        return memory;
      }
      if (text === null) return {};
      try {
        return parse(text);
      } catch (error) {
        try {
          localStorage.setItem(KEY + "-damaged", text); // set aside, not lost
          localStorage.removeItem(KEY);
        } catch (problem) {
          keeps = false;
        }
        return {};
      }
    }

    function save(entries) {
      memory = entries;
      if (keeps) {
        try {
          localStorage.setItem(KEY, JSON.stringify({ version: 1, exercises: entries }));
        } catch (error) {
          keeps = false;
        }
      }
    }

    function tell() {
      listeners.forEach((listener) => listener());
    }

    window.addEventListener("storage", (event) => {
      if (event.key === KEY || event.key === null) tell(); // another tab changed it
    });

    return {
      get(key) {
        const entries = load();
        return Object.hasOwn(entries, key) ? entries[key] : { state: "open", tries: 0, answer: "", hints: 0 };
      },
      set(key, change) {
        save({ ...load(), [key]: { ...this.get(key), ...change } });
        tell();
      },
      forget() {
        save({});
        tell();
      },
      // The record as a file holds it, and such a file's entries by key; an Error where the text is no such file.
      text: () => JSON.stringify({ version: 1, exercises: load() }, null, 1) + "\n",
      read(text) {
        return Object.fromEntries(Object.entries(parse(text)).filter(([key]) => NUMBERED.test(key)));
      },
      // As in progress_file.py: what is furthest counts, and nothing is taken away.
      add(others) {
        const entries = load();
        for (const [key, other] of Object.entries(others)) {
          const old = Object.hasOwn(entries, key) ? entries[key] : { state: "open", tries: 0, answer: "", hints: 0 };
          const order = Object.keys(STATES);
          const further = order.indexOf(other.state) < order.indexOf(old.state);
          entries[key] = {
            state: further ? other.state : old.state,
            tries: Math.max(old.tries, other.tries),
            answer: (further && other.answer) || old.answer || other.answer,
            hints: Math.max(old.hints, other.hints),
          };
        }
        save(entries);
        tell();
      },
      subscribe: (listener) => listeners.add(listener),
      unsubscribe: (listener) => listeners.delete(listener),
      keeps: () => keeps,
    };
  })();

  // ---------------------------------------------------------------- small helpers
  let count = 0;
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function readData(host) {
    const script = host.querySelector('script[type="application/json"]');
    try {
      return JSON.parse(script.textContent);
    } catch (error) {
      return null; // what stands in the element stays
    }
  }

  // ---------------------------------------------------------------- one exercise
  class CompassExercise extends HTMLElement {
    connectedCallback() {
      if (!this.data) {
        this.data = readData(this);
        if (!this.data) return;
        this.build();
      }
      this.listener = () => this.refresh();
      store.subscribe(this.listener);
      this.refresh();
    }

    disconnectedCallback() {
      store.unsubscribe(this.listener);
    }

    build() {
      const { data } = this;
      const id = `compass-exercise-${++count}`;
      this.badge = make("span", { class: "compass-badge" });
      this.status = make("p", { class: "compass-feedback", role: "status", id: `${id}-status` });
      const heading = make(
        "p",
        { class: "compass-exercise-title", id: `${id}-title` },
        make("span", { class: "compass-exercise-name" }, make("strong", {}, `Exercise ${data.key}`), ` ${data.title}`),
        this.badge
      );
      const card = make("div", { class: "compass-card", role: "group", "aria-labelledby": `${id}-title` }, heading);
      if (data.kind === "number") card.append(this.numberForm(id));
      else if (data.kind === "choice") card.append(this.choiceForm(id));
      else if (data.kind === "audit") card.append(this.auditForm(id));
      else card.append(this.pythonPart(id));
      card.append(this.status);
      if (this.notes) card.append(this.notes);
      card.append(this.hintPart(id));
      // JupyterLab takes bare keys as commands of its own.
      card.addEventListener("keydown", (event) => event.stopPropagation());
      const anchor = `check-${data.key.replace(".", "-")}`;
      if (!document.getElementById(anchor)) this.id = anchor;
      this.querySelector(".compass-exercise-plain").replaceWith(card);
      this.restore();
      if (location.hash === `#${this.id}`) this.scrollIntoView();
    }

    form(...children) {
      const button = make("button", { type: "submit", class: "compass-button compass-button-main" }, "Check");
      const form = make("form", { class: "compass-form", novalidate: "" }, ...children, button);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.submit();
      });
      return form;
    }

    numberForm(id) {
      const { unit } = this.data;
      this.input = make("input", {
        id: `${id}-input`, type: "text", class: "compass-input", autocomplete: "off", autocapitalize: "off",
        autocorrect: "off", spellcheck: "false", enterkeyhint: "done", "aria-describedby": `${id}-status`,
      });
      const label = make("label", { for: `${id}-input` }, unit ? `Your answer in ${unit === "%" ? "percent" : unit}` : "Your answer");
      return this.form(make("div", { class: "compass-field" }, label, this.input));
    }

    choiceForm(id) {
      this.radios = this.data.options.map((option) =>
        make("input", { type: "radio", name: `${id}-option`, value: option.label, id: `${id}-${option.label}` })
      );
      const rows = this.data.options.map((option, index) =>
        make("label", { class: "compass-option", for: `${id}-${option.label}` },
          this.radios[index],
          make("span", {}, make("span", { class: "compass-letter" }, `${option.label})`), ` ${option.text}`))
      );
      return this.form(make("fieldset", { class: "compass-options" }, make("legend", {}, "Your answer"), ...rows));
    }

    auditForm(id) {
      const { claims, charges } = this.data;
      this.notes = make("ul", { class: "compass-notes", "aria-label": "What is said of your findings" });
      this.notes.hidden = true;
      this.selects = claims.map(({ number }) =>
        make("select", { class: "compass-input compass-charge", id: `${id}-${number}` },
          make("option", { value: "" }, "no objection"),
          ...charges.map(({ label, text }) => make("option", { value: label }, `${label}) ${text}`)))
      );
      const rows = claims.map(({ number, text }, index) =>
        make("div", { class: "compass-claim" },
          make("label", { for: `${id}-${number}` }, make("span", { class: "compass-letter" }, `(${number})`), ` ${text}`),
          this.selects[index])
      );
      return this.form(make("fieldset", { class: "compass-options" }, make("legend", {}, "Your findings"), ...rows));
    }

    pythonPart(id) {
      const what = this.data.kind === "function" ? "function" : "array";
      this.box = make("input", { type: "checkbox", id: `${id}-done` });
      this.box.addEventListener("change", () =>
        store.set(this.data.key, { state: this.box.checked ? "done" : "open" })
      );
      return make("div", {},
        make("p", { class: "compass-python" },
          `This one needs Python: the answer is ${what === "array" ? "an array" : "a function"}. Open the chapter as a notebook `,
          "(“How to use this book” says how), replace the three dots in the cell above and run it: ",
          make("code", {}, "check"), " then tells you what it finds."),
        make("label", { class: "compass-option", for: `${id}-done` }, this.box, make("span", {}, "I solved it in Python"))
      );
    }

    hintPart(id) {
      this.hintList = make("ol", { class: "compass-hints", id: `${id}-hints`, "aria-live": "polite", "aria-label": "Hints" });
      this.hintButton = make("button", { type: "button", class: "compass-button" });
      this.hintButton.addEventListener("click", () => {
        const shown = this.hintList.children.length;
        if (shown >= this.data.hints.length) return;
        this.showHints(shown + 1);
        store.set(this.data.key, { hints: shown + 1 });
      });
      const part = make("div", { class: "compass-hint-part" }, this.hintButton, this.hintList);
      this.showHints(0);
      return part;
    }

    showHints(level) {
      const { hints } = this.data;
      level = Math.min(level, hints.length);
      while (this.hintList.children.length > level) this.hintList.lastChild.remove();
      for (let i = this.hintList.children.length; i < level; i++) this.hintList.append(make("li", {}, hints[i]));
      this.hintList.hidden = level === 0;
      const rest = hints.length - level;
      // The button stays when all are shown, so that the focus is not lost.
      this.hintButton.setAttribute("aria-disabled", rest ? "false" : "true");
      this.hintButton.textContent = rest
        ? `${level ? "Next hint" : "Hint"} (${level + 1} of ${hints.length})`
        : hints.length > 1 ? `All ${hints.length} hints shown` : "Hint shown";
    }

    typed() {
      if (this.input) return this.input.value;
      if (this.selects) {
        const findings = this.selects.map((select, index) => [this.data.claims[index].number, select.value]);
        return findings.filter(([, letter]) => letter).map(([number, letter]) => `${number}${letter}`).join(" ");
      }
      const chosen = this.radios.find((radio) => radio.checked);
      return chosen ? chosen.value : "";
    }

    judge(text) {
      if (this.data.kind === "audit") return judgeAudit(this.data, text);
      return this.data.kind === "number" ? judgeNumber(this.data, text) : judgeChoice(this.data, text);
    }

    submit() {
      const text = this.typed();
      const feedback = this.judge(text);
      this.judged = true;
      this.say(feedback);
      if (feedback.verdict !== "right" && feedback.verdict !== "wrong") return;
      const { state, tries } = store.get(this.data.key);
      store.set(this.data.key, {
        state: feedback.verdict === "right" || state === "done" ? "done" : "attempted",
        tries: tries + 1,
        answer: text.slice(0, 100),
      });
    }

    say({ verdict, message }) {
      const [symbol, words] = VERDICTS[verdict];
      this.status.dataset.verdict = verdict;
      this.status.replaceChildren(make("strong", {}, `${symbol} ${words}.`), ` ${message}`);
      if (this.notes) this.tell(verdict === "invalid" ? [] : this.judge(this.typed()).notes);
      if (this.input) this.input.setAttribute("aria-invalid", verdict === "wrong" || verdict === "invalid" ? "true" : "false");
    }

    tell(notes) {
      this.notes.hidden = notes.length === 0;
      this.notes.replaceChildren(
        ...notes.map(([number, text]) => make("li", {}, make("span", { class: "compass-letter" }, `(${number})`), ` ${text}`))
      );
    }

    // What this browser remembers of an earlier visit is put back, and judged again by today's definition.
    // In a notebook, the answer that Python was just given comes first.
    restore() {
      const { given } = this.data;
      const { answer, hints } = store.get(this.data.key);
      this.showHints(hints);
      if (!this.box) this.fill(given ? given.typed : answer);
      if (given) this.say(given);
      else if (!this.box && this.typed()) this.say(this.judge(this.typed()));
      else return;
      this.judged = true;
    }

    fill(answer) {
      if (this.input) this.input.value = answer;
      else if (this.selects) {
        const findings = new Map(answer.split(" ").filter(Boolean).map((item) => [parseInt(item, 10), item.slice(-1)]));
        this.selects.forEach((select, index) => (select.value = findings.get(this.data.claims[index].number) || ""));
      } else this.radios.forEach((radio) => (radio.checked = radio.value === answer));
    }

    refresh() {
      const { state, hints } = store.get(this.data.key);
      this.badge.textContent = `${STATES[state]} ${state}`;
      this.badge.dataset.state = state;
      if (this.box) this.box.checked = state === "done";
      if (this.judged && !this.data.given && state === "open" && /right|wrong/.test(this.status.dataset.verdict)) {
        // The progress was forgotten: this card starts anew.
        this.judged = false;
        this.status.replaceChildren();
        delete this.status.dataset.verdict;
        if (!this.box) this.fill("");
        if (this.notes) this.tell([]);
        if (this.input) this.input.removeAttribute("aria-invalid");
      }
      if (!hints) this.showHints(0);
    }
  }

  // ---------------------------------------------------------------- the whole book
  const FILE_NAME = "compass-progress.json";

  class CompassProgress extends HTMLElement {
    connectedCallback() {
      if (!this.data) {
        this.data = readData(this);
        if (!this.data) return;
        this.build();
      }
      this.listener = () => this.refresh();
      store.subscribe(this.listener);
      this.refresh();
    }

    disconnectedCallback() {
      store.unsubscribe(this.listener);
    }

    build() {
      const id = `compass-progress-${++count}`;
      this.rows = new Map();
      this.words = make("p", { class: "compass-progress-words", id: `${id}-words` });
      this.meter = make("progress", { class: "compass-meter", "aria-labelledby": `${id}-words` });
      this.advice = make("p", { class: "compass-progress-next" });
      this.status = make("p", { class: "compass-progress-note", role: "status" });
      this.sections = this.data.chapters.map((chapter, index) => this.section(chapter, `${id}-${index}`));
      const next = this.next();
      this.sections.forEach((section) => (section.fold.open = section.chapter.exercises.includes(next)));
      const card = make("div", { class: "compass-card compass-progress-card", role: "group", "aria-label": "Your progress" },
        this.words, this.meter, this.advice, ...this.sections.map(({ fold }) => fold), this.status, this.buttons());
      card.addEventListener("keydown", (event) => event.stopPropagation());
      this.querySelector(".compass-progress-plain").replaceWith(card);
      this.note();
    }

    section(chapter, id) {
      const list = make("ul", { class: "compass-progress-list" });
      for (const exercise of chapter.exercises) {
        const badge = make("span", { class: "compass-badge" });
        this.rows.set(exercise.key, badge);
        list.append(make("li", {}, this.link(chapter, exercise), badge));
      }
      const words = make("span", { class: "compass-progress-count", id: `${id}-words` });
      const meter = make("progress", { class: "compass-meter", "aria-labelledby": `${id}-name`, max: chapter.exercises.length });
      const name = make("span", { class: "compass-progress-name", id: `${id}-name` }, chapter.name);
      const summary = make("summary", { class: "compass-progress-chapter" }, name, meter, words);
      return { chapter, words, meter, fold: make("details", { class: "compass-progress-fold" }, summary, list) };
    }

    link(chapter, exercise) {
      const name = `${exercise.key} ${exercise.title}`;
      if (!chapter.page) return make("span", {}, name);
      return make("a", { href: `${chapter.page}#check-${exercise.key.replace(".", "-")}` }, name);
    }

    // What changes or replaces the record is asked for twice.
    buttons() {
      const button = (words, kind = "") => make("button", { type: "button", class: `compass-button ${kind}`.trim() }, words);
      const [keep, load, forget] = [button("Save to a file"), button("Load a file"), button("Forget my progress", "compass-button-bad")];
      const [yes, no] = [button(""), button("No")];
      const file = make("input", { type: "file", accept: ".json,application/json", "aria-label": "A saved record" });
      file.hidden = true;
      let act = null;
      let asked = null;
      const end = (said) => {
        [keep, load, forget].forEach((one) => (one.hidden = false));
        yes.hidden = no.hidden = true;
        this.note(said);
        if (asked) asked.focus();
      };
      const ask = (from, question, answers, action) => {
        [asked, act] = [from, action];
        [yes.textContent, no.textContent] = answers;
        [keep, load, forget].forEach((one) => (one.hidden = true));
        yes.hidden = no.hidden = false;
        this.note(question);
        no.focus();
      };
      yes.addEventListener("click", () => end(act()));
      no.addEventListener("click", () => end());
      yes.hidden = no.hidden = true;

      keep.addEventListener("click", () => {
        const url = URL.createObjectURL(new Blob([store.text()], { type: "application/json" }));
        const link = make("a", { href: url, download: FILE_NAME });
        link.click();
        setTimeout(() => URL.revokeObjectURL(url), 10000);
        this.note(`Saved as ${FILE_NAME}: ${this.counted()}.`);
      });
      load.addEventListener("click", () => file.click());
      file.addEventListener("change", async () => {
        const [chosen] = file.files;
        if (!chosen) return;
        let found = null;
        try {
          if (chosen.size < 1e6) found = store.read(await chosen.text());
        } catch (error) {
          found = null;
        }
        file.value = ""; // the same file may be chosen again
        const states = Object.values(found || {}).map(({ state }) => state);
        if (!states.length) {
          this.note(`${chosen.name} holds no record of this book’s exercises. Nothing was changed.`);
          load.focus();
          return;
        }
        const said = `${states.filter((state) => state === "done").length} done, ${states.filter((state) => state === "attempted").length} attempted`;
        ask(load, `${chosen.name}: ${said}. Add this to what is kept here? Nothing is taken away.`, ["Yes, add it", "No, leave it"], () => {
          store.add(found);
          return `Added. Now ${this.counted()}.`;
        });
      });
      forget.addEventListener("click", () =>
        ask(forget, "All answers and hints of every chapter will be forgotten. Sure? “Save to a file” keeps a copy.", ["Yes, forget it", "No, keep it"], () => {
          store.forget();
          return "Forgotten.";
        })
      );
      return make("div", { class: "compass-progress-foot" }, keep, load, forget, no, yes, file);
    }

    note(text) {
      this.status.textContent = text || (store.keeps()
        ? "Kept in this browser only."
        : "This browser keeps nothing: it lasts until you leave the page.");
    }

    states(exercises) {
      return exercises.map(({ key }) => store.get(key).state);
    }

    exercises() {
      return this.data.chapters.flatMap((chapter) => chapter.exercises);
    }

    // As in progress_file.py: Progress.next and Progress.counted.
    next() {
      const all = this.exercises();
      const done = this.states(all).map((state) => state === "done");
      const after = done.lastIndexOf(true) + 1;
      return [...all.slice(after), ...all.slice(0, after)].find((exercise) => !done[all.indexOf(exercise)]);
    }

    counted(exercises = this.exercises()) {
      const states = this.states(exercises);
      const tried = states.filter((state) => state === "attempted").length;
      const done = states.filter((state) => state === "done").length;
      return `${done} of ${exercises.length} done${tried ? `, ${tried} attempted` : ""}`;
    }

    refresh() {
      for (const [key, badge] of this.rows) {
        const { state } = store.get(key);
        badge.textContent = `${STATES[state]} ${state}`;
        badge.dataset.state = state;
      }
      for (const { chapter, words, meter } of this.sections) {
        words.textContent = this.counted(chapter.exercises);
        meter.value = this.states(chapter.exercises).filter((state) => state === "done").length;
      }
      const done = this.states(this.exercises()).filter((state) => state === "done").length;
      this.words.textContent = `${done} of ${this.rows.size} exercises done`;
      this.meter.max = Math.max(1, this.rows.size);
      this.meter.value = done;
      const next = this.next();
      const chapter = this.data.chapters.find(({ exercises }) => exercises.includes(next));
      if (next) this.advice.replaceChildren("Next: ", this.link(chapter, next));
      else this.advice.replaceChildren("All exercises are done.");
      if (!store.keeps() && this.status.textContent.startsWith("Kept")) this.note();
    }
  }

  customElements.define("compass-exercise", CompassExercise);
  customElements.define("compass-progress", CompassProgress);
})();
