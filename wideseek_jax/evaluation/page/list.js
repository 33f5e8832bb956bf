// The rollouts to choose from: filters, and a list that draws what is seen.

const ROW = 62; // pixels, as in page.css

const ORDERS = {
  'as written': () => 0,
  'best first': (a, b) => b.reward - a.reward,
  'worst first': (a, b) => a.reward - b.reward,
  'largest advantage': (a, b) => Math.abs(b.advantage ?? 0) - Math.abs(a.advantage ?? 0),
  'most agents': (a, b) => b.agents - a.agents,
};

function rolloutsView(index, open) {
  const {rollouts, tasks} = index;
  const rewards = rollouts.map((r) => r.reward ?? 0);
  const least = Math.floor(Math.min(0, ...rewards) * 20) / 20;
  const most = Math.ceil(Math.max(1, ...rewards) * 20) / 20;
  const texts = tasks.map((task) => `${task.id} ${task.question}`.toLowerCase());
  let found = [];
  let chosen = -1;
  let frame = 0;

  const option = (value, text) => h('option', {value}, plain(clip(text, 90)));
  const select = (label, options) =>
    h('select', {'aria-label': label, title: label, onchange: () => filter()}, options);
  const search = h('input', {
    type: 'search', placeholder: 'Find a task  ( / )', 'aria-label': 'Find a task', oninput: () => filter(),
  });
  const taskChoice = select('Task', [option('', `All ${plural(tasks.length, 'task')}`),
    ...tasks.map((task, i) => option(i, `${task.question}`))]);
  const sourceChoice = select('Rollouts of', [option('', 'All rollouts'),
    ...index.sources.map((source, i) => option(i, source))]);
  const failures = [...new Set(rollouts.flatMap((r) => r.failures))].sort();
  const failureChoice = select('Failures', [option('', 'Failed or not'),
    option('none', 'no failures'), option('any', 'any failure'),
    ...failures.map((name) => option(`=${name}`, failureName(name)))]);
  const orderChoice = select('Order', Object.keys(ORDERS).map((name) => option(name, name)));
  const bound = (label, value) => h('input', {
    type: 'range', min: least, max: most, step: 0.05, value, 'aria-label': label, oninput: () => filter(),
  });
  const low = bound('Least reward', least);
  const high = bound('Highest reward', most);
  const bounds = h('output');
  const bars = h('div', {class: 'bars', 'aria-hidden': 'true'});
  const bins = Array(24).fill(0);
  const binOf = (r) => Math.min(23, Math.floor((r - least) / (most - least) * 24));
  rewards.forEach((reward) => bins[binOf(reward)]++);
  const tallest = Math.max(...bins);
  bins.forEach((n) => bars.append(h('i', {style: `height:${n ? 3 + 25 * Math.sqrt(n / tallest) : 0}px`})));

  const status = h('p', {class: 'muted status', role: 'status'});
  const space = h('div', {class: 'space', role: 'listbox', 'aria-label': 'Rollouts'});
  const scroller = h('div', {class: 'scroller', tabindex: 0, onscroll: () => draw()}, space);
  const detail = h('div', {class: 'detail', tabindex: -1});
  const node = h('div', {class: 'browser'},
    h('aside', null, h('div', {class: 'filters'}, search, taskChoice,
      h('div', {class: 'two'}, sourceChoice, failureChoice),
      h('div', {class: 'rewards'}, h('div', {class: 'between'}, h('span', null, 'Reward'), bounds), bars, low, high),
      h('div', {class: 'two'}, status, orderChoice)), scroller),
    detail);

  function filter(first = true) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [from, to] = [+low.value, +high.value].sort((a, b) => a - b);
    bounds.textContent = `${from.toFixed(2)} to ${to.toFixed(2)}`;
    [...bars.children].forEach((bar, i) =>
      bar.classList.toggle('out', i < Math.floor((from - least) / (most - least) * 24) || i > binOf(to)));
    const failure = failureChoice.value;
    const fits = rollouts.map((r, i) => i).filter((i) => {
      const r = rollouts[i];
      return (taskChoice.value === '' || r.task === +taskChoice.value)
        && (sourceChoice.value === '' || r.source === +sourceChoice.value)
        && rewards[i] >= from - 1e-6 && rewards[i] <= to + 1e-6
        && (failure === '' || (failure === 'none' ? !r.failures.length
          : failure === 'any' ? r.failures.length : r.failures.includes(failure.slice(1))))
        && words.every((word) => texts[r.task].includes(word));
    });
    const order = ORDERS[orderChoice.value];
    found = fits.sort((a, b) => order(rollouts[a], rollouts[b]) || a - b);
    status.textContent = found.length === rollouts.length
      ? plural(found.length, 'rollout') : `${count(found.length)} of ${count(rollouts.length)}`;
    space.style.height = `${found.length * ROW}px`;
    draw();
    if (first && found.length && !found.includes(chosen)) open(found[0]);
    else if (!found.length) detail.replaceChildren(h('p', {class: 'empty'}, 'No rollout fits.'));
  }

  function draw() {
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 4);
    const last = Math.min(found.length, first + Math.ceil((scroller.clientHeight || 900) / ROW) + 8);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(row(found[at], at));
    space.replaceChildren(...rows);
  }

  function row(place, at) {
    const r = rollouts[place];
    const where = [index.sources[r.source], r.step == null ? null : `step ${r.step}`, `#${r.sample}`];
    return h('a', {
      class: 'row', href: `#rollouts/${place}`, style: `top:${at * ROW}px`, role: 'option', tabindex: -1,
      'aria-selected': String(place === chosen),
    },
    h('div', {class: 'gauge'}, h('b', null, number(r.reward, 2)),
      h('i', null, h('i', {style: `width:${Math.round(100 * Math.min(1, Math.max(0, (rewards[place] - least) / (most - least))))}%`}))),
    h('div', {class: 'what'}, h('div', {class: 'one'}, shown(clip(tasks[r.task].question, 120))),
      h('div', {class: 'one muted'},
        r.advantage ? h('span', {class: r.advantage > 0 ? 'up' : 'down'}, `${signed(r.advantage)} `) : null,
        r.failures.length ? h('span', {class: 'bad', title: r.failures.map(failureName).join(', ')}, '⚠ ') : null,
        shown(where.filter(Boolean).join(' · ')), ` · ${plural(r.agents, 'agent')}`)));
  }

  function show(place) {
    if (!rollouts[place]) return;
    chosen = place;
    // A held key passes over rollouts without drawing each of them.
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      detail.replaceChildren(rolloutView(index, place));
      detail.scrollTop = 0;
    });
    const at = found.indexOf(place);
    if (at >= 0) {
      const [top, end] = [at * ROW, at * ROW + ROW];
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (end > scroller.scrollTop + scroller.clientHeight)
        scroller.scrollTop = end - scroller.clientHeight;
    }
    draw();
  }

  function move(by) {
    const at = found.indexOf(chosen);
    const next = found[Math.min(found.length - 1, Math.max(0, at + by))];
    if (next != null && next !== chosen) open(next);
  }

  // To the next or last rollout of another task.
  function leap(by) {
    let at = found.indexOf(chosen);
    while (found[at + by] != null && rollouts[found[at + by]].task === rollouts[chosen].task) at += by;
    if (found[at + by] != null) open(found[at + by]);
  }

  function toggle() {
    const folds = [...detail.querySelectorAll('.turns > .turn > details, .fan-out > .subagent > details')];
    const opens = !folds.some((node) => node.open);
    folds.forEach((node) => { node.open = opens; });
  }

  new ResizeObserver(draw).observe(scroller);
  filter(false);
  return {node, show, move, leap, toggle, search, first: () => found[0], chosen: () => chosen};
}
