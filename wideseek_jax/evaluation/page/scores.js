// Tables: scores of evaluated rollouts, and every metric of the training.

const interval = (e) => [
  h('b', null, e.mean.toFixed(3)),
  h('span', {class: 'muted'}, ` ${e.low.toFixed(3)}–${e.high.toFixed(3)}`),
];

// Means as dots with intervals, on one scale for the column.
function whisker(estimate, low, high) {
  const x = (v) => 4 + (v - low) / (high - low || 1) * 92;
  return h('svg', {viewBox: '0 0 100 12', class: 'whisker', 'aria-hidden': 'true'},
    h('line', {class: 'grid', x1: 4, x2: 96, y1: 6, y2: 6}),
    h('line', {class: 'line run0', x1: x(estimate.low), x2: x(estimate.high), y1: 6, y2: 6}),
    h('circle', {class: 'dot run0', cx: x(estimate.mean), cy: 6, r: 3.2}));
}

function spark(values) {
  const found = values.filter((v) => Number.isFinite(v));
  const low = Math.min(...found), high = Math.max(...found);
  const x = (i) => 2 + i / Math.max(1, values.length - 1) * 116;
  const y = (v) => 18 - (v - low) / (high - low || 1) * 16;
  let d = '', pen = 'M';
  values.forEach((v, i) => {
    if (!Number.isFinite(v)) return;
    d += `${pen}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    pen = 'L';
  });
  return h('svg', {viewBox: '0 0 120 20', class: 'spark', 'aria-hidden': 'true'},
    h('path', {class: 'line run0', d}));
}

function scoresView(index) {
  const view = h('div', {class: 'page'});
  if (index.scores.length) view.append(scoresTable(index.scores));
  for (const run of index.runs) view.append(metricsTable(run, index.runs.length > 1));
  if (!view.childElementCount)
    view.append(h('p', {class: 'empty'}, 'No evaluated rollouts and no metrics.'));
  return {node: view};
}

function scoresTable(scores) {
  const names = [...new Set(scores.flatMap((s) => Object.keys(s.means)))];
  const range = new Map(names.map((name) => {
    const all = scores.map((s) => s.means[name]).filter(Boolean);
    return [name, [Math.min(...all.map((e) => e.low)), Math.max(...all.map((e) => e.high))]];
  }));
  return h('section', {class: 'section'},
    h('h2', null, 'Evaluated rollouts'),
    h('p', {class: 'muted'}, 'Means over tasks with 95 % bootstrap intervals.'),
    h('div', {class: 'scroll'}, h('table', {class: 'plain'},
      h('thead', null, h('tr', null,
        h('th', null, 'Rollouts of'), h('th', {class: 'num'}, 'step'),
        h('th', {class: 'num'}, 'tasks'), h('th', {class: 'num'}, 'rollouts'),
        names.map((name) => h('th', null, named(name))))),
      h('tbody', null, scores.map((score) => h('tr', null,
        h('td', null, shown(score.source)),
        h('td', {class: 'num'}, score.step == null ? '' : count(score.step)),
        h('td', {class: 'num'}, count(score.tasks)),
        h('td', {class: 'num'}, count(score.rollouts)),
        names.map((name) => h('td', null, score.means[name]
          ? [...interval(score.means[name]), whisker(score.means[name], ...range.get(name))]
          : '')),
      ))))));
}

function metricsTable(run, several) {
  const rows = Object.entries(run.series).filter(([name, values]) =>
    name !== 'step' && values.some((v) => Number.isFinite(v)));
  return h('section', {class: 'section'},
    h('h2', null, several ? `Training: ${plain(run.name)}` : 'Training'),
    h('p', {class: 'muted'}, `${plural(run.series.step.length, 'step')}, every metric that was logged.`),
    h('div', {class: 'scroll'}, h('table', {class: 'plain'},
      h('thead', null, h('tr', null, h('th', null, 'metric'),
        ['first', 'last', 'least', 'most'].map((t) => h('th', {class: 'num'}, t)),
        h('th', null, 'over the steps'))),
      h('tbody', null, rows.map(([name, values]) => {
        const found = values.filter((v) => Number.isFinite(v));
        const cells = [found[0], found.at(-1), Math.min(...found), Math.max(...found)];
        return h('tr', null, h('td', null, shown(name)),
          cells.map((v) => h('td', {class: 'num'}, number(v))),
          h('td', null, spark(values)));
      })))));
}
