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
  const STATES = { done: "✓", attempted: "✗", open: "○" };

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
      this.status = make("p", { class: "compass-progress-note", role: "status" });
      this.forget = make("button", { type: "button", class: "compass-button" }, "Forget my progress");
      this.yes = make("button", { type: "button", class: "compass-button compass-button-bad" }, "Yes, forget it");
      this.no = make("button", { type: "button", class: "compass-button" }, "No, keep it");
      const sections = this.data.chapters.map((chapter) => {
        const list = make("ul", { class: "compass-progress-list" });
        for (const exercise of chapter.exercises) {
          const name = `${exercise.key} ${exercise.title}`;
          const href = `${chapter.page}#check-${exercise.key.replace(".", "-")}`;
          const badge = make("span", { class: "compass-badge" });
          this.rows.set(exercise.key, badge);
          list.append(make("li", {}, chapter.page ? make("a", { href }, name) : make("span", {}, name), badge));
        }
        return make("div", {}, make("p", { class: "compass-progress-chapter" }, chapter.name), list);
      });
      const ask = (asking) => {
        this.forget.hidden = asking;
        this.yes.hidden = this.no.hidden = !asking;
      };
      ask(false);
      this.forget.addEventListener("click", () => {
        ask(true);
        this.note("All answers and hints of every chapter will be forgotten. Sure?");
        this.no.focus();
      });
      this.no.addEventListener("click", () => {
        ask(false);
        this.note();
        this.forget.focus();
      });
      this.yes.addEventListener("click", () => {
        ask(false);
        store.forget();
        this.note("Forgotten.");
        this.forget.focus();
      });
      const card = make("div", { class: "compass-card compass-progress-card", role: "group", "aria-label": "Your progress" },
        this.words, this.meter, ...sections,
        make("div", { class: "compass-progress-foot" }, this.status, this.forget, this.no, this.yes));
      card.addEventListener("keydown", (event) => event.stopPropagation());
      this.querySelector(".compass-progress-plain").replaceWith(card);
      this.note();
    }

    note(text) {
      this.status.textContent = text || (store.keeps()
        ? "Kept in this browser only."
        : "This browser keeps nothing: it lasts until you leave the page.");
    }

    refresh() {
      let done = 0;
      for (const [key, badge] of this.rows) {
        const { state } = store.get(key);
        done += state === "done";
        badge.textContent = `${STATES[state]} ${state}`;
        badge.dataset.state = state;
      }
      this.words.textContent = `${done} of ${this.rows.size} exercises done`;
      this.meter.max = Math.max(1, this.rows.size);
      this.meter.value = done;
      if (!this.forget.hidden && !store.keeps()) this.note();
    }
  }

  customElements.define("compass-exercise", CompassExercise);
  customElements.define("compass-progress", CompassProgress);
})();
