/* <compass-explorable>: draws what the table beside it holds. Every number comes from Python; this file computes no loss.
   A classic script without dependencies, so that a page opened from disk works too. */
(function () {
  'use strict';
  if (!window.customElements || customElements.get('compass-explorable')) return;

  const TEXT = 13, TICK = 12;               // px, on every screen
  const DASH = { dashed: '7 4', dotted: '2 3.5', dashdot: '8 3 2 3' };
  const LEVELS = 16;                        // steps of the colour ramp in explorable.css
  let serial = 0;

  // Text ------------------------------------------------------------------------------------------------------------------
  const esc = s => String(s).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }[c]));
  const minus = s => s.replace(/-/g, '\u2212');
  const sup = n => minus(String(n)).replace(/[\u22120-9]/g, c => c === '\u2212' ? '\u207b' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[c]);
  const fixed = (v, d) => {
    const s = v.toFixed(d);
    return minus(/^-[0.]*$/.test(s) ? s.slice(1) : s);
  };
  function shortNumber(v) {                 // for tables and ticks: four significant digits are enough to read
    if (v === null || v === undefined) return '–';
    if (typeof v === 'string') return v;
    if (!isFinite(v)) return v > 0 ? '∞' : '\u2212∞';
    const a = Math.abs(v);
    if (a >= 1e6 || (a && a < 1e-4)) {
      const e = Math.floor(Math.log10(a) + 1e-12);
      return minus(String(+(v / Math.pow(10, e)).toPrecision(4))) + '×10' + sup(e);
    }
    return minus(String(+v.toPrecision(Math.max(4, Math.ceil(Math.log10(a + 1))))));
  }
  const canvas = document.createElement('canvas').getContext('2d');
  const widths = new Map();
  function textWidth(s, size, family) {
    const key = size + family + s;
    if (!widths.has(key)) {
      canvas.font = size + 'px ' + family;
      widths.set(key, canvas.measureText(s).width);
    }
    return widths.get(key);
  }
  const written = (v, d) => v === null || !isFinite(v) ? shortNumber(v) : fixed(v, d);
  function wrap(text, limit, measure) {
    const lines = [];
    for (const word of text.split(' ')) {
      const last = lines[lines.length - 1];
      if (last !== undefined && measure(last + ' ' + word) <= limit) lines[lines.length - 1] = last + ' ' + word;
      else lines.push(word);
    }
    return lines;
  }

  // Axes ------------------------------------------------------------------------------------------------------------------
  function scaleOf(axis, from, to) {
    const log = axis.scale === 'log', f = log ? Math.log10 : v => v;
    const a = f(axis.range[0]), k = (to - from) / (f(axis.range[1]) - a);
    const lo = Math.min(from, to) - 1e3, hi = Math.max(from, to) + 1e3;
    return v => (v === null || v === undefined || (log && v <= 0)) ? null
      : Math.max(lo, Math.min(hi, from + (f(v) - a) * k));
  }
  function ticksOf(axis, room) {            // [[value, text]...] at 1, 2 or 5 times a power of ten; about `room` of them
    const [lo, hi] = axis.range, out = [];
    room = Math.max(2, room);
    if (axis.scale === 'log') {
      const a = Math.ceil(Math.log10(lo) - 1e-9), b = Math.floor(Math.log10(hi) + 1e-9);
      const plain = a >= -4 && b <= 5;
      const show = (m, e) => plain ? minus(String(+(m * Math.pow(10, e)).toPrecision(3))).replace(/\B(?=(\d{3})+$)/, e >= 4 ? ',' : '')
        : m === 1 ? '10' + sup(e) : '';
      const fine = (b - a + 1) * 3 <= room ? [1, 2, 5] : b - a < 1 ? [1, 2, 3, 5] : [1];
      const every = Math.max(1, Math.ceil((b - a + 1) / room));
      for (let e = a - 1; e <= b; e++) for (const m of fine) {
        const v = m * Math.pow(10, e);
        if (v >= lo * (1 - 1e-9) && v <= hi * (1 + 1e-9) && (e - a) % every === 0) out.push([v, show(m, e)]);
      }
      if (out.length >= 2) return out;
      out.length = 0;
    }
    const raw = (hi - lo) / room, p = Math.pow(10, Math.floor(Math.log10(raw))), r = raw / p;
    const step = (r <= 1.42 ? 1 : r <= 3.17 ? 2 : r <= 7.08 ? 5 : 10) * p;
    const d = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) {
      const v = i * step, big = Math.max(Math.abs(lo), Math.abs(hi));
      out.push([v, big >= 1e6 || big < 1e-3 ? shortNumber(+v.toPrecision(6))
        : fixed(v, d).replace(/\B(?=(\d{3})+(?!\d))/g, big >= 1e4 && !d ? ',' : '')]);
    }
    return out;
  }

  // SVG pieces ------------------------------------------------------------------------------------------------------------
  const n1 = v => +v.toFixed(1);
  const text = (x, y, s, o = {}) => `<text x="${n1(x)}" y="${n1(y)}" class="${o.cls || ''}"` +
    ` font-size="${o.size || TEXT}" text-anchor="${o.anchor || 'start'}"${o.extra || ''}>${esc(s)}</text>`;
  const line = (x1, y1, x2, y2, cls, extra = '') =>
    `<line x1="${n1(x1)}" y1="${n1(y1)}" x2="${n1(x2)}" y2="${n1(y2)}" class="${cls}"${extra}/>`;
  const dashed = d => DASH[d] ? ` stroke-dasharray="${DASH[d]}"` : '';

  /* Put a label where it hides least: the first candidate [x, y] (its top left) that hits neither `dots` (points on
     curves) nor `boxes` (labels already placed); the last choice is preferred, so that labels do not flicker. */
  function place(w, h, candidates, scene, memory, id) {
    let best = 0, bestCost = Infinity;
    candidates.forEach(([x, y], i) => {
      let cost = i * 0.6 - (memory[id] === i ? 3 : 0);
      cost += 40 * (Math.max(0, scene.left - x) + Math.max(0, x + w - scene.right) +
        Math.max(0, scene.top - y) + Math.max(0, y + h - scene.bottom));
      for (const [px, py] of scene.dots) if (px > x - 3 && px < x + w + 3 && py > y - 2 && py < y + h + 2) cost += 2;
      for (const b of scene.boxes) {
        const over = Math.min(x + w, b[2]) - Math.max(x, b[0]), deep = Math.min(y + h, b[3]) - Math.max(y, b[1]);
        if (over > 0 && deep > 0) cost += 60 + over * deep;
      }
      if (cost < bestCost) { best = i; bestCost = cost; }
    });
    memory[id] = best;
    const [x, y] = candidates[best];
    scene.boxes.push([x, y, x + w, y + h]);
    return [x, y];
  }

  /* A row of swatches with names, where names beside the marks would not fit. Returns [svg, height]. */
  function keyRow(items, width, measure, y0) {
    let x = 0, y = y0 + 14, s = '';
    for (const it of items) {
      const w = 30 + measure(it.label);
      if (x && x + w > width) { x = 0; y += 20; }
      s += it.swatch(x, y - 5) + text(x + 30, y, it.label, { cls: 'ce-ink' });
      x += w + 18;
    }
    return [s, y - y0 + 14];
  }

  // Views: each returns { height, base, live }; `base` is what does not move -----------------------------------------------
  function frame(g, xAxis, yAxis, f) {      // gridlines, tick labels, axis names for two numeric axes
    let s = '';
    for (const [v, t] of f.yTicks) {
      const y = f.y(v);
      s += line(f.left, y, f.right, y, 'ce-grid') + text(f.left - 7, y + 4, t, { cls: 'ce-muted', size: TICK, anchor: 'end' });
    }
    let edge = -Infinity;
    for (const [v, t] of f.xTicks) {
      const x = f.x(v), w = g.measure(t, TICK);
      s += line(x, f.bottom, x, f.bottom + 4, 'ce-axis');
      const at = Math.min(x, g.width - w / 2);
      if (at - w / 2 > edge + 6) {
        s += text(at, f.bottom + 17, t, { cls: 'ce-muted', size: TICK, anchor: 'middle' });
        edge = at + w / 2;
      }
    }
    s += line(f.left, f.bottom, f.right, f.bottom, 'ce-axis');
    if (yAxis.label) s += text(0, f.top - 12, yAxis.label, { cls: 'ce-ink' });
    if (xAxis.label) {
      const w = g.measure(xAxis.label), x = Math.max(0, Math.min(f.right - w, (f.left + f.right - w) / 2));
      s += text(x, f.bottom + 36, xAxis.label, { cls: 'ce-ink' });
    }
    return s;
  }

  function drawLines(view, g) {
    const W = g.width, H = Math.min(view.height, Math.max(220, W * 0.72));
    const named = view.series.filter(s => s.label);
    const limit = W < 460 ? Math.max(64, W * 0.22) : W * 0.27;
    const wrapped = named.map(s => wrap(s.label, limit, g.measure));
    const widest = Math.max(0, ...wrapped.flat().map(t => g.measure(t)));
    const stacked = wrapped.reduce((a, l) => a + l.length * 15 + 3, 0);
    const useKey = named.length > 1 && (widest > limit || stacked > H || W < 460 && named.length > 3);
    let top = view.y_axis.label ? 24 : 8, keySvg = '';
    if (useKey) {
      const items = named.map(s => ({ label: s.label, swatch: (x, y) => s.points === 'only'
        ? `<circle cx="${x + 12}" cy="${y}" r="3.5" class="ce-fill ce-${s.color}"/>`
        : line(x, y, x + 24, y, 'ce-line ce-' + s.color, dashed(s.dash)) }));
      const [svg, h] = keyRow(items, W, g.measure, 0);
      keySvg = svg; top += h;
    }
    const bottom = top + H, yTicks = ticksOf(view.y_axis, H / 46);
    const left = 10 + Math.max(...yTicks.map(t => g.measure(t[1], TICK)));
    const right = W - (useKey || !named.length ? 10 : widest <= limit ? widest + 12 : 10);
    const f = { left, right, top, bottom, yTicks };
    f.xTicks = ticksOf(view.x_axis, (right - left) / 72);
    f.x = scaleOf(view.x_axis, left, right);
    f.y = scaleOf(view.y_axis, bottom, top);
    const base = keySvg + frame(g, view.x_axis, view.y_axis, f);

    const scene = { left: left + 2, right, top: top - 6, bottom: bottom - 1, dots: [], boxes: [] };
    let curves = '', labels = '';
    const ends = [];
    view.series.forEach((s, si) => {
      const xs = g.get(s.x || view.x), ys = g.get(s.y), cls = 'ce-' + s.color;
      const px = [].concat(xs).map(f.x), py = [].concat(ys).map(f.y);
      if (s.band) {
        const lo = [].concat(g.get(s.band[0])).map(f.y), hi = [].concat(g.get(s.band[1])).map(f.y);
        const ok = px.map((x, i) => i).filter(i => px[i] !== null && lo[i] !== null && hi[i] !== null);
        if (ok.length > 1) curves += `<path class="ce-band ${cls}" d="M${ok.map(i => n1(px[i]) + ' ' + n1(hi[i])).join('L')}L` +
          ok.reverse().map(i => n1(px[i]) + ' ' + n1(lo[i])).join('L') + 'Z"/>';
      }
      let d = '', pen = false, dots = '', last = null;
      for (let i = 0; i < px.length; i++) {
        if (px[i] === null || py[i] === null) { pen = false; continue; }
        d += (pen ? 'L' : 'M') + n1(px[i]) + ' ' + n1(py[i]);
        if (pen && s.points !== 'only') {   // samples along the stroke, for label placing
          const k = Math.min(24, Math.ceil(Math.hypot(px[i] - px[i - 1], py[i] - py[i - 1]) / 6));
          for (let j = 1; j <= k; j++) scene.dots.push([px[i - 1] + (px[i] - px[i - 1]) * j / k, py[i - 1] + (py[i] - py[i - 1]) * j / k]);
        } else scene.dots.push([px[i], py[i]]);
        pen = true;
        if (s.points) dots += `<circle cx="${n1(px[i])}" cy="${n1(py[i])}" r="3" class="ce-fill ${cls}"/>`;
        if (px[i] <= right + 1 && px[i] >= left - 1) last = [px[i], Math.max(top, Math.min(bottom, py[i]))];
      }
      if (s.points !== 'only') curves += `<path class="ce-line ${cls}" d="${d}"${dashed(s.dash)}/>`;
      curves += dots;
      if (s.label && !useKey && last) ends.push({ s, x: last[0], at: last[1], rows: wrapped[named.indexOf(s)] });
    });

    // Names at the line ends, pushed apart until none overlaps.
    ends.sort((a, b) => a.at - b.at);
    ends.forEach(e => { e.h = e.rows.length * 15; e.y = e.at; });
    for (let i = 1; i < ends.length; i++) {
      const gap = (ends[i - 1].h + ends[i].h) / 2 + 3;
      if (ends[i].y < ends[i - 1].y + gap) ends[i].y = ends[i - 1].y + gap;
    }
    for (let i = ends.length - 1, floor = bottom + 4; i >= 0; i--) {
      ends[i].y = Math.min(ends[i].y, floor - ends[i].h / 2);
      floor = ends[i].y - ends[i].h / 2 - 3;
    }
    for (const e of ends) {
      const inMargin = widest <= limit, w = Math.max(...e.rows.map(t => g.measure(t)));
      const x = inMargin ? e.x + 8 : Math.max(left, e.x - w), y0 = (inMargin ? e.y : Math.max(top + e.h / 2, e.y - 18)) - e.h / 2 + 11;
      if (inMargin && Math.abs(e.y - e.at) > 7) labels += line(e.x + 1, e.at, e.x + 7, e.y, 'ce-lead');
      e.rows.forEach((t, i) => { labels += text(x, y0 + 15 * i, t, { cls: 'ce-label ce-text ce-' + e.s.color }); });
      scene.boxes.push([x, y0 - 11, x + w, y0 - 11 + e.h]);
    }

    let rules = '';
    const notes = [];
    view.rules.forEach((r, i) => {
      const v = g.get(r.value), cls = 'ce-rule ce-' + r.color;
      const at = r.axis === 'x' ? f.x(v) : f.y(v);
      const lo = r.axis === 'x' ? left : top, hi = r.axis === 'x' ? right : bottom;
      if (at === null || at < lo - 0.5 || at > hi + 0.5) return;
      rules += r.axis === 'x' ? line(at, top, at, bottom, cls, dashed(r.dash)) : line(left, at, right, at, cls, dashed(r.dash));
      for (let q = lo; q < hi; q += 6) scene.dots.push(r.axis === 'x' ? [at, q] : [q, at]);
      if (!r.label) return;
      const w = g.measure(r.label, TICK), h = 15, mid = (left + right - w) / 2;
      notes.push({ id: 'r' + i, w, h, r, c: r.axis === 'x'
        ? [[at + 5, top - 3], [at - 5 - w, top - 3], [at + 5, bottom - 20], [at - 5 - w, bottom - 20], [at + 5, (top + bottom) / 2], [at - 5 - w, (top + bottom) / 2]]
        : [[right - w - 4, at - 17], [left + 6, at - 17], [right - w - 4, at + 3], [left + 6, at + 3], [mid, at - 17], [mid, at + 3]] });
    });
    let marks = '';
    view.markers.forEach((m, i) => {
      const x = f.x(g.get(m.x)), y0 = f.y(g.get(m.y));
      if (x === null || y0 === null || x < left - 1 || x > right + 1) return;
      const y = Math.max(top, Math.min(bottom, y0)), off = Math.abs(y - y0) > 0.5;
      if (m.guides !== undefined) rules += line(x, y, x, bottom, 'ce-guide') + line(left, y, x, y, 'ce-guide');
      marks += off ? `<path class="ce-dot ce-${m.color}" d="M${n1(x)} ${n1(y)}${y0 < y ? 'm-7 10l7-9l7 9z' : 'm-7-10l7 9l7-9z'}"/>`
        : `<circle cx="${n1(x)}" cy="${n1(y)}" r="6.5" class="ce-dot ce-${m.color}"/>`;
      scene.boxes.push([x - 8, y - 8, x + 8, y + 8]);
      if (!m.label) return;
      const w = g.measure(m.label), h = 16;
      notes.push({ id: 'm' + i, w, h, m, c: [[x + 11, y - 18], [x - 11 - w, y - 18], [x + 11, y + 4], [x - 11 - w, y + 4],
        [x - w / 2, y - 28], [x - w / 2, y + 12], [x - w - 4, y - 44], [x + 4, y - 44], [x - w / 2, y - 60]] });
    });
    for (const t of notes) {
      const [x, y] = place(t.w, t.h, t.c, scene, g.memory, t.id), item = t.m || t.r;
      labels += text(x, y + 12, item.label, { cls: 'ce-label ce-text ce-' + item.color, size: t.m ? TEXT : TICK });
    }
    const clip = `<clipPath id="${g.uid}-clip"><rect x="${n1(left)}" y="${n1(top - 3)}" width="${n1(right - left + 3)}" height="${n1(H + 6)}"/></clipPath>`;
    return { height: bottom + (view.x_axis.label ? 42 : 24), base,
      live: clip + rules + `<g clip-path="url(#${g.uid}-clip)">${curves}</g>` + marks + labels };
  }

  function drawBars(view, g) {
    const W = g.width, flat = view.horizontal, stacked = view.kind === 'stacked';
    const cats = [].concat(g.get(view.categories)).map(String), n = cats.length, k = view.series.length;
    const values = view.series.map(s => [].concat(g.get(s.value)));
    const total = view.total === undefined ? null : [].concat(g.get(view.total));
    const hot = view.highlight === undefined ? -1 : Math.round(g.get(view.highlight));
    const num = (ref, i) => g.readout(ref) || written([].concat(g.get(ref))[i], view.digits);
    const swatch = s => (x, y) => `<rect x="${x}" y="${y - 7}" width="22" height="13" rx="2" ${fill(s)}/>`;
    const fill = (s, dim) => `class="ce-bar ce-${s.color} ce-${dim ? 'dim' : s.fill}"` +
      (s.fill === 'hatched' && !dim ? ` fill="url(#${g.uid}-${s.color})"` : '');
    let defs = '';
    view.series.filter(s => s.fill === 'hatched').forEach(s => {
      defs += `<pattern id="${g.uid}-${s.color}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
        `<rect width="6" height="6" class="ce-bar ce-${s.color} ce-tint"/><rect width="2.5" height="6" class="ce-fill ce-${s.color}"/></pattern>`;
    });
    let head = 0, base = defs;
    const named = view.series.filter(s => s.label);
    if (named.length > 1) {
      const [svg, h] = keyRow(named.map(s => ({ label: s.label, swatch: swatch(s) })), W, g.measure, 0);
      base += svg; head = h;
    }
    const axis = view.value_axis, live = [], notes = [];
    const thick = stacked ? 34 : 20, gap = flat ? 12 : 0;
    let height, left, right, top, bottom, pos, band, start, totalNamed = false;
    if (flat) {
      const limit = W * 0.36, rows = cats.map(c => wrap(c, limit, g.measure));
      left = n > 1 || cats[0] ? Math.max(...rows.flat().map(t => g.measure(t))) + 12 : 12;
      const digits = g.measure('00.' + '0'.repeat(view.digits)), sum = g.measure((view.total_label || '') + ' ') + digits;
      totalNamed = !!view.total_label && sum < 0.3 * W;
      right = W - Math.max(18, (stacked ? (total ? (totalNamed ? sum : digits) : 0) : digits) + 10);
      top = head + 4;
      const inner = stacked ? thick : thick * k + 2 * (k - 1);
      band = Math.max(inner, ...rows.map(r => r.length * 16)) + gap;
      bottom = top + n * band; height = bottom + (axis.label ? 42 : 24);
      pos = scaleOf(axis, left, right);
      start = i => top + i * band + (band - inner) / 2;
      rows.forEach((r, i) => r.forEach((t, j) => {
        live.push(text(left - 9, top + (i + 0.5) * band + 4.5 + (j - (r.length - 1) / 2) * 16, t,
          { cls: i === hot ? 'ce-ink ce-strong' : 'ce-ink', anchor: 'end' }));
      }));
      let edge = -Infinity;
      for (const [v, t] of ticksOf(axis, (right - left) / 64)) {
        const x = pos(v), w = g.measure(t, TICK);
        base += line(x, top, x, bottom, 'ce-grid');
        if (x - w / 2 > edge + 6) {
          base += text(x, bottom + 17, t, { cls: 'ce-muted', size: TICK, anchor: 'middle' }); edge = x + w / 2;
        }
      }
      if (axis.label) base += text(Math.max(0, Math.min(cats[0] ? left : 0, W - g.measure(axis.label))), bottom + 36, axis.label, { cls: 'ce-ink' });
    } else {
      top = head + (axis.label ? 26 : 18);
      bottom = top + Math.min(view.height, Math.max(200, W * 0.6));
      const ticks = ticksOf(axis, (bottom - top) / 46);
      left = 10 + Math.max(...ticks.map(t => g.measure(t[1], TICK))); right = W - 2;
      band = (right - left) / n;
      pos = scaleOf(axis, bottom, top);
      for (const [v, t] of ticks) {
        base += line(left, pos(v), right, pos(v), 'ce-grid') + text(left - 7, pos(v) + 4, t, { cls: 'ce-muted', size: TICK, anchor: 'end' });
      }
      if (axis.label) base += text(0, head + 12, axis.label, { cls: 'ce-ink' });
      // Names below: level if they fit, else wrapped, else turned; with very many bars every second or third.
      const rows = cats.map(c => wrap(c, band - 6, g.measure));
      const level = rows.flat().every(t => g.measure(t) <= band - 4) && rows.every(r => r.length <= 3);
      const every = level ? 1 : Math.max(1, Math.ceil(15 / band));
      let drop = 0;
      cats.forEach((c, i) => {
        const x = left + (i + 0.5) * band, cls = i === hot ? 'ce-ink ce-strong' : 'ce-ink';
        if (level) {
          rows[i].forEach((t, j) => live.push(text(x, bottom + 18 + 15 * j, t, { cls, anchor: 'middle' })));
          drop = Math.max(drop, rows[i].length * 15);
        } else if (i % every === 0 || i === hot) {
          if (every > 1 && i !== hot && hot >= 0 && Math.abs(i - hot) * band < 15) return;
          const tall = n > 12 || band < 26, short = c.length > 18 ? c.slice(0, 17) + '…' : c, w = g.measure(short);
          live.push(text(x + (tall ? 4 : 3), bottom + 14, short, { cls, anchor: 'end', extra: ` transform="rotate(${tall ? -90 : -40} ${n1(x)} ${n1(bottom + 12)})"` }));
          drop = Math.max(drop, tall ? w + 4 : w * 0.65 + 12);
        }
      });
      height = bottom + 12 + drop;
    }
    const within = v => Math.max(axis.range[0], Math.min(axis.range[1], v === null ? 0 : v));
    const zero = pos(within(0));
    const wide = flat ? 0 : Math.min(stacked ? 90 : 46, (band * (n > 20 ? 0.86 : 0.74)) / (stacked ? 1 : k));
    const rect = (a, b, cross, size, attrs) => {
      const lo = Math.min(a, b), len = Math.abs(a - b);
      return flat ? `<rect x="${n1(lo)}" y="${n1(cross)}" width="${n1(len)}" height="${n1(size)}" ${attrs}/>`
        : `<rect x="${n1(cross)}" y="${n1(lo)}" width="${n1(size)}" height="${n1(len)}" ${attrs}/>`;
    };
    for (let i = 0; i < n; i++) {
      const dim = hot >= 0 && i !== hot;
      let acc = 0;
      const mid = left + (i + 0.5) * band;
      view.series.forEach((s, j) => {
        const v = values[j][i];
        if (stacked) {
          const a = pos(within(acc)), b = pos(within(acc + v)), room = Math.abs(b - a);
          acc += v;
          const cross = flat ? start(i) : mid - wide / 2;
          if (room > 0.05) live.push(rect(a, b, cross, flat ? thick : wide, fill(s, dim)));
          const t = num(s.value, i), w = g.measure(t);
          if (flat ? room > w + 8 : room > 18 && wide > w + 4) notes.push(text(flat ? (a + b) / 2 : mid, flat ? cross + thick / 2 + 4.5 : (a + b) / 2 + 4.5, t,
            { anchor: 'middle', cls: s.fill === 'solid' && !dim ? 'ce-onfill' : 'ce-label ce-ink' }));
          return;
        }
        if (v === null) return;
        const b = pos(within(v)), t = num(s.value, i), w = g.measure(t, TICK);
        const cross = flat ? start(i) + j * (thick + 2) : mid + (j - k / 2) * wide;
        live.push(rect(zero, b, cross + (flat ? 0 : 0.5), flat ? thick : Math.max(1, wide - 1), fill(s, dim)));
        const bold = i === hot ? ' ce-strong' : '';
        if (flat) notes.push(text(v < 0 ? zero + 5 : b + 5, cross + thick / 2 + 4.5, t, { cls: 'ce-label ce-ink' + bold, size: TICK }));
        else if (w <= wide + 4 || (hot === i && k === 1)) notes.push(text(Math.max(left + w / 2, Math.min(right - w / 2, cross + wide / 2)),
          v < 0 ? b + 14 : b - 5, t, { cls: 'ce-label ce-ink' + bold, size: TICK, anchor: 'middle' }));
      });
      if (stacked && total) {
        const end = pos(within(total[i])), t = num(view.total, i);
        const name = view.total_label ? view.total_label + ' ' : '', w = g.measure(name + t);
        if (flat) notes.push(text(end + 6, start(i) + thick / 2 + 4.5, totalNamed ? name + t : t, { cls: 'ce-label ce-ink ce-strong' }));
        else notes.push(text(mid, end - 6, w <= band ? name + t : t, { cls: 'ce-label ce-ink ce-strong', anchor: 'middle' }));
      }
    }
    live.push(flat ? line(zero, top, zero, bottom, 'ce-axis') : line(left, zero, right, zero, 'ce-axis'));
    view.rules.forEach(r => {
      const at = pos(g.get(r.value)), w = g.measure(r.label || '', TICK);
      if (flat ? at < left - 1 || at > right + 1 : at < top - 1 || at > bottom + 1) return;
      live.push(flat ? line(at, top, at, bottom, 'ce-rule ce-' + r.color, dashed(r.dash))
        : line(left, at, right, at, 'ce-rule ce-' + r.color, dashed(r.dash)));
      if (r.label) notes.push(flat ? text(at + 5 + w > W ? at - 5 - w : at + 5, bottom - 4, r.label, { cls: 'ce-label ce-text ce-' + r.color, size: TICK })
        : text(right - w - 3, at - 5, r.label, { cls: 'ce-label ce-text ce-' + r.color, size: TICK }));
    });
    return { height, base, live: live.join('') + notes.join('') };
  }

  function drawHeat(view, g) {
    const W = g.width, z = g.get(view.z), xs = [].concat(g.get(view.x)), ys = [].concat(g.get(view.y));
    const rows = ys.length, cols = xs.length, axis = view.z_axis, log = axis.scale === 'log';
    const yText = ys.map(shortNumber), xText = xs.map(shortNumber);
    const barH = 40 + (axis.label ? 4 : 0), top = barH + (view.y_axis.label ? 24 : 8);
    const longNames = yText.length > 12 && typeof ys[0] === 'number' ? ['0.00', shortNumber(ys[0]).slice(0, 6)] : yText;
    const left = Math.min(W * 0.34, Math.max(...longNames.map(t => g.measure(t, TICK)))) + 9, right = W - 4;
    const bottom = top + Math.min(view.height, Math.max(180, (right - left) * 0.85));
    const cw = (right - left) / cols, ch = (bottom - top) / rows;
    const cx = i => left + (i + 0.5) * cw, cy = i => view.upper ? top + (i + 0.5) * ch : bottom - (i + 0.5) * ch;
    const unit = scaleOf(axis, 0, 1);
    const level = v => v === null || unit(v) === null ? -1 : Math.max(0, Math.min(LEVELS - 1, Math.floor(unit(v) * LEVELS)));
    const d = Array.from({ length: LEVELS }, () => '');
    let numbers = '';
    const annotate = ch >= 20 && z.every(r => r.every(v => g.measure(written(v, view.digits), TICK) < cw - 6));
    for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) {
      const l = level(z[r][c]);
      if (l < 0) continue;
      const x = n1(cx(c) - cw / 2), y = n1(cy(r) - ch / 2), x2 = n1(cx(c) + cw / 2), y2 = n1(cy(r) + ch / 2);
      d[l] += `M${x} ${y}H${x2}V${y2}H${x}Z`;
      if (annotate) numbers += text(cx(c), cy(r) + 4, written(z[r][c], view.digits), { size: TICK, anchor: 'middle', cls: l < 7 ? 'ce-onlow' : l > 8 ? 'ce-onhigh' : 'ce-onmid' });
    }
    const cells = d.map((p, l) => p && `<path d="${p}" class="ce-heat" style="fill:var(--ce-ramp-${l});stroke:var(--ce-ramp-${l})"/>`).join('');
    // Colour bar above the plot, with its name and the values at the steps.
    const bw = Math.min(260, W - 8), ticks = ticksOf(axis, bw / 60), bx = scaleOf(axis, 0, bw);
    let base = axis.label ? text(0, 11, axis.label, { cls: 'ce-ink' }) : '';
    const by = axis.label ? 17 : 4;
    for (let l = 0; l < LEVELS; l++) base += `<rect x="${n1(l * bw / LEVELS)}" y="${by}" width="${n1(bw / LEVELS + 0.4)}" height="10" style="fill:var(--ce-ramp-${l})"/>`;
    let edge = -Infinity;
    for (const [v, t] of ticks) {
      const w = g.measure(t, TICK), x = Math.max(w / 2, bx(v));
      if (!t || x - w / 2 <= edge + 6) continue;
      base += text(x, by + 23, t, { cls: 'ce-muted', size: TICK, anchor: 'middle' }) + line(bx(v), by + 10, bx(v), by + 13, 'ce-axis');
      edge = x + w / 2;
    }
    const numeric = a => a.every(v => typeof v === 'number');
    const index = (at, v) => {              // a numeric axis: between the cells' centres; else the position itself
      const last = at.length - 1;
      if (!numeric(at) || !last) return numeric(at) ? 0 : v;
      let i = 0;
      while (i < last - 1 && at[i + 1] < v) i++;
      return Math.max(-0.5, Math.min(last + 0.5, i + (v - at[i]) / (at[i + 1] - at[i])));
    };
    const marksOf = (at, names, size, room) => {  // [[index, text]...]: every cell if few, else round values
      if (!numeric(at) || at.length <= 12 && size >= room) return names.map((t, i) => [i, t]);
      const last = at.length - 1, ratio = at[0] > 0 ? Math.log(at[last] / at[0]) / Math.log(at[1] / at[0]) : 0;
      const scale = Math.abs(ratio - last) < 0.02 * last && at[last] / at[0] > 9 ? 'log' : 'linear';
      return ticksOf({ scale, range: [at[0], at[last]] }, size * at.length / room).map(([v, t]) => [index(at, v), t]);
    };
    edge = -Infinity;
    const room = Math.max(...xText.map(t => g.measure(t, TICK)));
    const turned = !numeric(xs) && room > cw - 4;
    for (const [i, t] of marksOf(xs, xText, cw, 58)) {
      if (turned && i % Math.ceil(14 / cw)) continue;
      const w = g.measure(t, TICK);
      if (turned) {
        base += text(cx(i) + 4, bottom + 8, t.length > 14 ? t.slice(0, 13) + '…' : t, { cls: 'ce-muted', size: TICK, anchor: 'end', extra: ` transform="rotate(-90 ${n1(cx(i) + 4)} ${n1(bottom + 8)})"` });
      } else if (cx(i) - w / 2 > edge + 4) {
        base += text(Math.min(cx(i), W - w / 2), bottom + 17, t, { cls: 'ce-muted', size: TICK, anchor: 'middle' });
        edge = cx(i) + w / 2;
      }
    }
    const deep = turned ? Math.min(100, room) + 12 : 20;
    const every = numeric(ys) ? 1 : Math.ceil(14 / ch);
    for (const [i, t] of marksOf(ys, yText, ch, ys.length <= 12 ? 14 : 44)) {
      if (i % every === 0 || numeric(ys)) base += text(left - 7, cy(i) + 4, t, { cls: 'ce-muted', size: TICK, anchor: 'end' });
    }
    if (view.y_axis.label) base += text(0, top - 8, view.y_axis.label, { cls: 'ce-ink' });
    if (view.x_axis.label) {
      const w = g.measure(view.x_axis.label);
      base += text(Math.max(0, (left + right - w) / 2), bottom + deep + 16, view.x_axis.label, { cls: 'ce-ink' });
    }
    let cursor = '';
    if (view.cursor) {
      const x = cx(index(xs, g.get(view.cursor[0]))), y = cy(index(ys, g.get(view.cursor[1])));
      if (numeric(xs) || numeric(ys)) {
        const shape = cls => line(x, top, x, bottom, cls) + line(left, y, right, y, cls);
        cursor = shape('ce-hair-out') + shape('ce-hair') +
          `<circle cx="${n1(x)}" cy="${n1(y)}" r="7" class="ce-ring-out"/><circle cx="${n1(x)}" cy="${n1(y)}" r="7" class="ce-ring"/>`;
      } else {
        const box = cls => `<rect x="${n1(x - cw / 2)}" y="${n1(y - ch / 2)}" width="${n1(cw)}" height="${n1(ch)}" class="${cls}"/>`;
        cursor = box('ce-ring-out') + box('ce-ring');
      }
    }
    return { height: bottom + deep + (view.x_axis.label ? 22 : 4), base, live: cells + numbers + cursor };
  }
  const DRAW = { lines: drawLines, bars: drawBars, stacked: drawBars, heat: drawHeat };

  // The same numbers as tables ---------------------------------------------------------------------------------------------
  const cell = (text, i, head) => text === '' ? '<td></td>' : head ? `<th scope="col">${esc(text)}</th>` : i ? `<td>${esc(text)}</td>` : `<th scope="row">${esc(text)}</th>`;
  const row = (cells, head) => '<tr>' + cells.map((text, i) => cell(text, i, head)).join('') + '</tr>';
  const table = (caption, head, body) => `<table><caption>${esc(caption)}</caption><thead>${row(head, true)}</thead><tbody>` +
    body.map(r => row(r)).join('') + '</tbody></table>';
  function dataTables(view, get) {
    const list = v => [].concat(v).map(shortNumber);
    if (view.kind === 'heat') {
      const xs = list(get(view.x)), ys = list(get(view.y));
      return table(view.z_axis.label || view.z, [`${view.y_axis.label || 'row'} ↓, ${view.x_axis.label || 'column'} →`, ...xs],
        get(view.z).map((r, i) => [ys[i], ...r.map(shortNumber)]));
    }
    if (view.kind !== 'lines') {
      const cats = [].concat(get(view.categories)), sets = view.series.map(s => list(get(s.value)));
      const head = ['', ...view.series.map(s => s.label || s.value)];
      if (view.total) { sets.push(list(get(view.total))); head.push(view.total_label || 'total'); }
      return table(view.value_axis.label || 'values', head, cats.map((c, i) => [c, ...sets.map(s => s[i])]));
    }
    const shared = new Map();
    view.series.forEach(s => {
      const x = s.x || view.x;
      shared.set(x, [...(shared.get(x) || []), s]);
    });
    return [...shared].map(([x, series]) => {
      const sets = series.map(s => list(get(s.y)));
      return table(view.y_axis.label || 'values', [view.x_axis.label || 'x', ...series.map(s => s.label || s.y)],
        list(get(x)).map((v, i) => [v, ...sets.map(s => s[i])]));
    }).join('');
  }

  // The element -----------------------------------------------------------------------------------------------------------
  class CompassExplorable extends HTMLElement {
    connectedCallback() {
      if (this.ready) {                      // moved in the page
        if (!this.observer) this.watch();
        return;
      }
      if (!this.querySelector('script')) {   // the parser has not reached the data yet
        if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', () => this.connectedCallback(), { once: true });
        return;
      }
      try {
        this.spec = JSON.parse(this.querySelector('script').textContent);
        this.build();
      } catch (error) {                      // keep the numbers that the page came with
        console.error('compass-explorable:', error);
      }
    }

    disconnectedCallback() {
      if (this.observer) this.observer.disconnect();
      this.observer = null;
    }

    build() {
      const spec = this.spec, uid = this.uid = `ce-${spec.name}-${++serial}`;
      this.memory = {};
      this.index = spec.sliders.map(s => s.start);
      const sliders = spec.sliders.map((s, i) => `<div class="ce-slider"><label for="${uid}-${i}">${esc(s.label)}</label>` +
        `<span class="ce-value" aria-hidden="true"></span>` +
        `<input id="${uid}-${i}" type="range" min="0" max="${s.stops.length - 1}" step="1" value="${s.start}" data-slider="${esc(s.name)}" autocomplete="off">` +
        `<span class="ce-ends" aria-hidden="true"><span>${esc(s.stops[0])}</span><span>${esc(s.stops[s.stops.length - 1])}</span></span></div>`).join('');
      const readouts = spec.readouts.map(r => `<div class="ce-readout"><span class="ce-name${r.color ? ' ce-text ce-' + r.color : ''}">${esc(r.label)}</span> ` +
        `<span class="ce-number" data-readout="${esc(r.key)}"></span></div>`).join('');
      const start = this.querySelector('.ce-start');
      const root = document.createElement('figure');
      root.className = 'ce-figure';
      root.innerHTML = `<div class="ce-chart"><svg role="img" xmlns="http://www.w3.org/2000/svg"><g></g><g></g></svg></div>` +
        (readouts && `<output class="ce-readouts" aria-live="off" for="${spec.sliders.map((s, i) => uid + '-' + i).join(' ')}">${readouts}</output>`) +
        `<div class="ce-controls">${sliders}<button type="button" class="ce-reset">Reset</button></div>` +
        `<p class="ce-spoken" role="status" aria-live="polite"></p>` +
        `<details class="ce-details"><summary>Show the numbers</summary><div class="ce-tables" tabindex="0" role="group" aria-label="The numbers of this figure"></div></details>` +
        `<figcaption>${esc(spec.caption)}</figcaption>`;
      root.setAttribute('aria-label', 'Interactive figure');
      if (start) start.replaceWith(root); else this.appendChild(root);

      this.svg = root.querySelector('svg');
      [this.baseLayer, this.liveLayer] = this.svg.querySelectorAll('g');
      this.inputs = [...root.querySelectorAll('input')];
      this.values = [...root.querySelectorAll('.ce-value')];
      this.spoken = root.querySelector('.ce-spoken');
      this.details = root.querySelector('details');
      this.numbers = new Map([...root.querySelectorAll('[data-readout]')].map(e => [e.dataset.readout, e]));
      this.inputs.forEach((input, i) => {
        input.addEventListener('input', () => { this.index[i] = +input.value; this.request(true); });
        // JupyterLab would take these keys for its own cell navigation.
        input.addEventListener('keydown', event => event.stopPropagation());
      });
      root.querySelector('.ce-reset').addEventListener('click', () => this.reset());
      this.details.addEventListener('toggle', () => this.tables());
      root.querySelector('.ce-tables').addEventListener('keydown', event => event.stopPropagation());
      this.ready = true;
      this.watch();
      this.draw();
      this.dataset.ready = '';
    }

    watch() {
      this.observer = new ResizeObserver(() => {
        const chart = this.svg.parentNode;
        if (Math.floor(chart.getBoundingClientRect().width) !== this.drawnWidth) this.request(false);
      });
      this.observer.observe(this.svg.parentNode);
    }

    reset() {
      this.spec.sliders.forEach((s, i) => { this.index[i] = s.start; this.inputs[i].value = s.start; });
      this.request(true);
    }

    /* Data of a reference at the sliders' position; what is no key is a constant. */
    look(entry) {
      if (!entry.by.length) return entry.data;
      const at = entry.by.reduce((n, b) => n * this.spec.sliders[b].stops.length + this.index[b], 0);
      return entry.data[at];
    }

    number(readout) {
      const v = this.look(readout);
      return typeof v === 'number' ? fixed(v, readout.digits) : v;
    }

    readoutText(readout) {
      const t = this.number(readout);
      return readout.unit && t !== 'not defined' ? t + ' ' + readout.unit : t;
    }

    sliderText(i) {
      const s = this.spec.sliders[i];
      return s.stops[this.index[i]] + (s.unit ? ' ' + s.unit : '');
    }

    request(spoken) {
      if (spoken) {                          // say the result once the reader has stopped moving, not at each step
        clearTimeout(this.speaking);
        this.speaking = setTimeout(() => { this.spoken.textContent = this.sentence(); }, 700);
      }
      if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
    }

    sentence() {
      return this.spec.readouts.map(r => `${r.label}: ${this.readoutText(r)}`).join('; ');
    }

    draw() {
      const begun = performance.now(), spec = this.spec;
      const width = Math.floor(this.svg.parentNode.getBoundingClientRect().width);  // whole: text keeps its size
      spec.sliders.forEach((s, i) => {
        const input = this.inputs[i], t = this.sliderText(i);
        this.values[i].textContent = (s.symbol ? s.symbol + ' = ' : '') + t;
        input.setAttribute('aria-valuetext', t);
        input.style.setProperty('--ce-done', (100 * this.index[i] / (s.stops.length - 1)).toFixed(2) + '%');
      });
      for (const r of spec.readouts) this.numbers.get(r.key).textContent = this.readoutText(r);
      const where = spec.sliders.map((s, i) => `${s.label} ${this.sliderText(i)}`).join(', ');
      this.svg.setAttribute('aria-label', `${spec.description} Now: ${where}. ${this.sentence()}`.trim());
      if (width > 40) {
        const family = getComputedStyle(this.svg).fontFamily;
        const get = ref => typeof ref === 'string' ? this.look(spec.table[ref]) : ref;
        const readout = ref => { const r = spec.readouts.find(o => o.key === ref); return r && this.number(r); };
        const out = DRAW[spec.view.kind](spec.view, { width, get, readout, uid: this.uid, memory: this.memory,
          measure: (s, size = TEXT) => textWidth(s, size, family) });
        if (out.base !== this.lastBase) this.baseLayer.innerHTML = this.lastBase = out.base;
        this.liveLayer.innerHTML = out.live;
        if (this.drawnWidth !== width || this.drawnHeight !== out.height) {
          const h = Math.ceil(out.height);
          this.svg.setAttribute('viewBox', `0 0 ${width} ${h}`);
          this.svg.setAttribute('width', width);
          this.svg.setAttribute('height', h);
          this.drawnWidth = width; this.drawnHeight = out.height;
        }
      }
      if (this.details.open) this.tables();
      this.drawTime = performance.now() - begun;
    }

    tables() {
      const box = this.details.querySelector('.ce-tables');
      if (!this.details.open) return;
      const spec = this.spec, get = ref => typeof ref === 'string' ? this.look(spec.table[ref]) : ref;
      const body = spec.sliders.map((s, i) => [s.label, this.sliderText(i)]).concat(spec.readouts.map(r => [r.label, this.readoutText(r)]));
      const top = box.scrollTop, left = box.scrollLeft;
      box.innerHTML = table('At this position', ['quantity', 'value'], body) + dataTables(spec.view, get);
      box.scrollTop = top; box.scrollLeft = left;
    }
  }
  customElements.define('compass-explorable', CompassExplorable);
})();
