// Training curves: small SVG charts that share one hovered step.

const PREFERRED = [
  'reward', 'item_f1', 'exact_match', 'success', 'num_subagents',
  'sampled_tokens', 'failed', 'train/entropy', 'train/grad_norm',
  'time/rollout_s', 'time/update_s',
];
const SIZE = {width: 360, height: 170, left: 44, right: 10, top: 8, bottom: 22};

function niceTicks(low, high, wanted = 4) {
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let t = Math.floor(low / step); t <= Math.ceil(high / step); t++)
    ticks.push(t * step);
  return ticks;
}

// A mean over a window that ends at each value; nulls stay.
function smooth(values, window) {
  return values.map((value, i) => {
    if (value == null) return null;
    const near = values.slice(Math.max(0, i - window + 1), i + 1)
      .filter((v) => v != null);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

// What one chart shows: {title, lines: [{run, steps, values, held}]}.
function chartOf(title, names, runs) {
  const lines = [];
  runs.forEach((run, place) => names.forEach((name) => {
    const values = run.series[name];
    if (!values || !values.some((v) => Number.isFinite(v))) return;
    // A row of step n is written after n + 1 updates.
    const steps = run.series.step.map((step) => step + 1);
    lines.push({run: place, steps, values, held: name.startsWith('valid/')});
  }));
  return {title, lines};
}

function drawChart(chart) {
  const {width, height, left, right, top, bottom} = SIZE;
  const all = chart.lines.flatMap((l) => l.values.filter((v) => Number.isFinite(v)));
  const steps = chart.lines.flatMap((l) => l.steps);
  const ticks = niceTicks(Math.min(...all), Math.max(...all));
  const [low, high] = [ticks[0], ticks.at(-1)];
  const first = Math.min(...steps);
  const last = Math.max(...steps, first + 1);
  const x = (s) => left + (s - first) / (last - first) * (width - left - right);
  const y = (v) => height - bottom - (v - low) / (high - low) * (height - top - bottom);
  const svg = h('svg', {
    viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': chart.title,
  });
  for (const tick of ticks) {
    svg.append(
      h('line', {class: 'grid', x1: left, x2: width - right, y1: y(tick), y2: y(tick)}),
      h('text', {class: 'tick end', x: left - 6, y: y(tick) + 3.5}, tickText(tick, ticks)),
    );
  }
  for (const step of niceTicks(first, last, 5))
    if (Number.isInteger(step) && step >= first && step <= last)
      svg.append(h('text', {class: 'tick mid', x: x(step), y: height - 6}, count(step)));
  const path = (line, values) => {
    let pen = 'M', d = '';
    values.forEach((v, i) => {
      if (!Number.isFinite(v)) pen = 'M';
      else {
        d += `${pen}${x(line.steps[i]).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = 'L';
      }
    });
    return d;
  };
  for (const line of chart.lines) {
    const colour = `run${line.run % 6}`;
    if (line.held) {
      line.values.forEach((v, i) => Number.isFinite(v) && svg.append(
        h('circle', {class: 'held', cx: x(line.steps[i]), cy: y(v), r: 3.5})));
    } else if (line.values.length < 8) {
      svg.append(h('path', {class: `line ${colour}`, d: path(line, line.values)}));
      line.values.forEach((v, i) => Number.isFinite(v) && svg.append(
        h('circle', {class: `dot ${colour}`, cx: x(line.steps[i]), cy: y(v), r: 2})));
    } else {
      const window = Math.max(3, Math.round(line.values.length / 20));
      svg.append(
        h('path', {class: `line faint ${colour}`, d: path(line, line.values)}),
        h('path', {class: `line ${colour}`, d: path(line, smooth(line.values, window))}),
      );
    }
  }
  const cursor = h('line', {class: 'cursor', y1: top, y2: height - bottom, x1: -9, x2: -9});
  svg.append(cursor);
  const readout = h('span', {class: 'readout'});
  const show = (step) => {
    cursor.setAttribute('x1', step == null ? -9 : x(step));
    cursor.setAttribute('x2', step == null ? -9 : x(step));
    readout.replaceChildren(...chart.lines.map((line) => {
      const places = line.values.map((_, i) => i)
        .filter((i) => Number.isFinite(line.values[i]));
      const at = step == null ? places.at(-1)
        : places.findLast((i) => line.steps[i] <= step) ?? places[0];
      return h('span', {class: line.held ? 'held' : `run${line.run % 6}`},
        number(line.values[at]));
    }));
  };
  show(null);
  const figure = h('figure', {class: 'chart'},
    h('figcaption', null, named(chart.title), readout), svg);
  figure.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width * width;
    const share = (place - left) / (width - left - right);
    const step = Math.round(first + Math.min(1, Math.max(0, share)) * (last - first));
    document.dispatchEvent(new CustomEvent('step', {detail: step}));
  };
  figure.onpointerleave = () =>
    document.dispatchEvent(new CustomEvent('step', {detail: null}));
  return {figure, show: (step) =>
    show(step == null ? null : Math.min(last, Math.max(first, step)))};
}

function tickText(tick, ticks) {
  const gap = Math.abs(ticks[1] - ticks[0]);
  const size = Math.max(...ticks.map(Math.abs));
  if (tick === 0) return '0';
  if (size >= 1e5 || size < 1e-3) return tick.toExponential(0).replaceAll('-', '−');
  if (size >= 1e4) return `${+(tick / 1e3).toFixed(1)}k`;
  const digits = Math.max(0, Math.ceil(-Math.log10(gap) - 1e-9));
  return tick.toFixed(digits).replace('-', '−');
}

function chartGroups(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.series)))]
    .filter((name) => name !== 'step' && !name.startsWith('valid/'));
  const chart = (name) => {
    const own = name.replace('rollout/', '');
    const both = name.startsWith('rollout/') ? [name, `valid/${own}`] : [name];
    return chartOf(own.replace('train/', ''), both, runs);
  };
  const groups = new Map([['Overview', []]]);
  for (const wanted of PREFERRED) {
    const name = [`rollout/${wanted}`, wanted].find((n) => names.includes(n));
    if (name) groups.get('Overview').push(chart(name));
  }
  for (const name of names) {
    const group = name.includes('/') ? name.split('/')[0] : 'other';
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(chart(name));
  }
  return groups;
}

function curvesView(index) {
  const live = [];
  const view = h('div', {class: 'page'});
  if (!index.runs.length)
    view.append(h('p', {class: 'empty'}, 'There is no metrics.jsonl in this folder.'));
  const legend = h('div', {class: 'legend'});
  if (index.runs.length > 1) index.runs.forEach((run, i) => legend.append(
    h('span', {class: `key run${i % 6}`}, plain(run.name))));
  if (index.runs.some((r) => Object.keys(r.series).some((n) => n.startsWith('valid/'))))
    legend.append(h('span', {class: 'key held'}, 'validation'));
  if (index.runs.length) legend.append(h('span', {class: 'muted'},
    'Thin: each step. Thick: moving mean. Right of a title: the last value, or that under the pointer.'));
  view.append(legend);
  for (const [name, charts] of chartGroups(index.runs)) {
    const drawn = charts.filter((chart) => chart.lines.length);
    if (!drawn.length) continue;
    view.append(fold([h('h2', null, name), h('span', {class: 'muted'}, plural(drawn.length, 'curve'))], () => {
      const made = drawn.map(drawChart);
      live.push(...made);
      return h('div', {class: 'charts'}, ...made.map((m) => m.figure));
    }, {class: 'section', open: name === 'Overview'}));
  }
  const onStep = (event) => live.forEach((chart) => chart.show(event.detail));
  document.addEventListener('step', onStep);
  return {node: view, close: () => document.removeEventListener('step', onStep)};
}
