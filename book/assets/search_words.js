/* The words around each hit of the search (tools/compass_search.py says why Sphinx's own way does not do).
   A hit's words come from a script of its page, loaded when the hit is about to be seen, once a page. */
(() => {
  'use strict';
  const BEFORE = 90, LENGTH = 240;
  const known = new Map();                   // page -> promise of its pieces [[id, text], ...]
  const told = new Map();
  window.compassWords = (page, pieces) => told.get(page)(pieces);

  const piecesOf = page => {
    if (!known.has(page)) {
      known.set(page, new Promise(done => {
        told.set(page, done);
        const script = document.createElement('script');
        script.src = `${document.documentElement.dataset.content_root}_static/words/${page}.js`;
        script.onerror = () => done([]);     // a page without words, as the index: the hit stands alone
        document.head.appendChild(script);
      }));
    }
    return known.get(page);
  };

  /* Where to begin to read: at the words as they were typed, else where most of them stand close together. */
  function place(text, typed, terms) {
    if (text.includes(typed)) return text.indexOf(typed);
    const found = [];                        // [where, term] of every occurrence, in order
    for (const term of terms) for (let at = text.indexOf(term); at >= 0; at = text.indexOf(term, at + 1)) found.push([at, term]);
    found.sort(([a], [b]) => a - b);
    let best = 0, most = 0;
    found.forEach(([at], i) => {
      const near = new Set();
      for (let j = i; j < found.length && found[j][0] < at + LENGTH - BEFORE; j++) near.add(found[j][1]);
      if (near.size > most) [best, most] = [at, near.size];
    });
    return best;
  }

  /* Some 240 characters from a little before a place, whole words. */
  function around(text, at) {
    const from = at > BEFORE ? text.indexOf(' ', at - BEFORE) + 1 : 0;
    const cut = text.lastIndexOf(' ', from + LENGTH);
    const to = from + LENGTH >= text.length ? text.length : cut > from ? cut : from + LENGTH;
    return (from ? '… ' : '') + text.slice(from, to) + (to < text.length ? ' …' : '');
  }

  async function show(hit) {
    const [page, id] = hit.querySelector('a').getAttribute('href').split('#');
    const pieces = await piecesOf(decodeURI(page.replace(/\.html$/, '')));
    const begin = id ? Math.max(0, pieces.findIndex(([name]) => name === decodeURIComponent(id))) : 0;
    const [typed, terms, , shown] = Search._parseQuery(new URLSearchParams(location.search).get('q'));
    const text = pieces.slice(begin).map(([, words]) => words).join(' ').trim();
    if (!text) return;
    const words = document.createElement('p');
    words.className = 'context';
    words.textContent = around(text, place(text.toLowerCase(), typed.trim().toLowerCase(), [...terms]));
    hit.appendChild(words);
    shown.forEach(term => _highlightText(words, term, 'highlighted'));
  }

  const results = document.getElementById('search-results');
  if (!results) return;
  // The theme gives the focus to the first field, which is that of a closed dialog.
  if (!location.search) document.querySelector('.bd-search-container input[type="search"]').focus();
  const seen = new IntersectionObserver(entries => entries.filter(e => e.isIntersecting).forEach(({ target }) => {
    seen.unobserve(target);
    show(target);
  }), { rootMargin: '300px' });
  new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {
    if (node.className === 'search-summary') node.setAttribute('role', 'status');  // how many were found is said aloud
    // A name of the library says in brackets what it is; any other hit shows its words.
    if (node.nodeName === 'LI' && !node.querySelector(':scope > span')) seen.observe(node);
  }))).observe(results, { childList: true, subtree: true });
})();
