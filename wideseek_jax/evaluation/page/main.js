// Puts the page together: views, keys, theme.

const index = load('index');
const VIEWS = {curves: 'Curves', scores: 'Tables', rollouts: 'Rollouts'};
let current = null;
let browser = null;

function go(place) {
  history.replaceState(null, '', `#rollouts/${place}`);
  route();
}

function route() {
  const [asked, place] = location.hash.slice(1).split('/');
  const name = VIEWS[asked] ? asked : index.rollouts.length ? 'rollouts' : 'curves';
  if (current?.name !== name) {
    current?.close?.();
    const view = name === 'curves' ? curvesView(index)
      : name === 'scores' ? scoresView(index)
        : browser ??= rolloutsView(index, go);
    current = {...view, name};
    byId('view').replaceChildren(view.node);
    byId('view').className = name;
    for (const tab of byId('tabs').children)
      tab.setAttribute('aria-selected', String(tab.hash === `#${name}`));
  }
  if (name !== 'rollouts') return;
  const wanted = index.rollouts[+place] && place ? +place : browser.chosen();
  browser.show(wanted < 0 ? browser.first() : wanted);
}

const KEYS = {
  j: ['next rollout', () => browser.move(1)],
  k: ['rollout before', () => browser.move(-1)],
  J: ['next task', () => browser.leap(1)],
  K: ['task before', () => browser.leap(-1)],
  o: ['open or fold all turns', () => browser.toggle()],
  '/': ['find a task', () => browser.search.focus()],
};
const ANYWHERE = {
  1: ['curves', () => { location.hash = 'curves'; }],
  2: ['tables', () => { location.hash = 'scores'; }],
  3: ['rollouts', () => { location.hash = 'rollouts'; }],
  t: ['light or dark', () => theme()],
  '?': ['this help', () => help()],
};

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape') document.activeElement?.blur?.();
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName)) return;
  const key = (current?.name === 'rollouts' ? KEYS[event.key] : null) ?? ANYWHERE[event.key];
  if (!key) return;
  event.preventDefault();
  key[1]();
};

function help() {
  const dialog = byId('help');
  if (dialog.open) return dialog.close();
  const rows = [...Object.entries(KEYS), ...Object.entries(ANYWHERE)];
  dialog.replaceChildren(h('h3', null, 'Keys'), h('dl', {class: 'keys'},
    rows.flatMap(([key, [words]]) => [h('dt', null, h('kbd', null, key)), h('dd', null, words)])));
  dialog.onclick = () => dialog.close();
  dialog.showModal();
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
}

byId('title').append(shown(index.title));
byId('tabs').append(...Object.entries(VIEWS).map(([name, words]) =>
  h('a', {href: `#${name}`, role: 'tab'}, words)));
byId('notice').append([
  index.rollouts.length < index.total
    ? `${count(index.rollouts.length)} of ${plural(index.total, 'rollout')}` : null,
  index.problems.length ? `${plural(index.problems.length, 'line')} could not be read` : null,
].filter(Boolean).join(' · '));
byId('notice').title = index.problems.map(plain).join('\n');
byId('theme').onclick = theme;
byId('help-button').onclick = help;
onhashchange = route;
route();
