// What is right beside what was answered.

const MARKS = {
  r: ['right', 'right'],
  w: ['wrong', 'wrong'],
  m: ['missing', 'missing'],
  x: ['extra', 'not in gold'],
  d: ['extra', 'repeated'],
};

function answerSection(task, rollout, body) {
  const answer = body.agents[0].answer;
  const section = h('section', {class: 'card'}, h('h3', null, 'Gold and answer'));
  if (task.kind === 'wide') {
    const marks = body.lines.map((line) => line[2]).join('');
    section.append(legendOf(marks));
    if (body.problem) section.append(h('p', {class: 'note'}, shown(body.problem)));
    section.append(compared(task, body.lines));
    if (body.parts.judge_asked) section.append(h('p', {class: 'muted'},
      'Colours are those of the rules; a judge was asked, too, and may have let more cells pass.'));
    section.append(fold(h('span', {class: 'thought'}, 'The answer as it was written'),
      () => block(answer || '(none)', 'mono'), {class: 'folded'}));
  } else {
    const right = body.parts.exact_match === 1;
    section.append(h('div', {class: 'pair'},
      h('div', null, h('h4', null, 'Gold'), task.answers.map((text) => block(text))),
      h('div', {class: right ? 'cell right' : 'cell wrong'}, h('h4', null, `Answer: ${right ? '✓ right' : '✗ wrong'}`),
        block(answer || '(none)'))));
  }
  return section;
}

function legendOf(marks) {
  const legend = h('p', {class: 'legend cells'});
  for (const [letter, [name, words]] of Object.entries(MARKS)) {
    const n = marks.split(letter).length - 1;
    if (n || 'rwm'.includes(letter)) legend.append(
      h('span', {class: `key cell ${name}`}, `${count(n)} ${words}`));
  }
  return legend;
}

const SHOWN_LINES = 200;

// Gold and answer share their lines, so that they stay side by side.
function compared(task, lines) {
  const key = (name) => task.unique_columns.includes(name);
  const heads = () => task.columns.map((name) =>
    h('th', {class: key(name) ? 'is-key' : '', title: key(name) ? 'names the row' : null}, shown(name)));
  const width = task.columns.length;
  const gap = (tag) => h(tag, {class: 'gap'});
  const row = ([gold, answer, marks]) => h('tr', null,
    gold < 0
      ? h('td', {class: 'none', colspan: width}, MARKS[marks[0]][1])
      : task.rows[gold].map((cell, i) => h('td', {class: `gold ${MARKS[marks[i]][0]}`}, shown(cell))),
    gap('td'),
    answer
      ? answer.map((cell, i) => h('td', {class: `cell ${MARKS[marks[i]][0]}`}, shown(cell)))
      : h('td', {class: 'cell missing', colspan: width}, 'missing'));
  const body = h('tbody', null, lines.slice(0, SHOWN_LINES).map(row));
  if (lines.length > SHOWN_LINES) {
    const rest = h('tr', null, h('td', {colspan: 2 * width + 1}, h('button', {
      class: 'more',
      onclick: () => rest.replaceWith(...lines.slice(SHOWN_LINES).map(row)),
    }, `Show ${plural(lines.length - SHOWN_LINES, 'more line')}`)));
    body.append(rest);
  }
  return h('div', {class: 'scroll'}, h('table', {class: 'compared'},
    h('thead', null,
      h('tr', {class: 'sides'}, h('th', {colspan: width}, 'Gold'), gap('th'), h('th', {colspan: width}, 'Answer')),
      h('tr', null, heads(), gap('th'), heads())),
    body));
}
