// One rollout: what it was worth, and what its agents did.

// {thought, pieces: [{call} or {text}]} of a turn.
function pieces(text) {
  let thought = '', rest = text;
  const close = text.lastIndexOf('</think>');
  if (close >= 0) {
    thought = text.slice(0, close).replace(/^\s*<think>/, '');
    rest = text.slice(close + 8);
  } else if (text.includes('<think>')) {
    [rest, thought] = [text.slice(0, text.indexOf('<think>')), text.slice(text.indexOf('<think>') + 7)];
  }
  const found = [];
  rest.split(/(<tool_call>[\s\S]*?(?:<\/tool_call>|$))/).forEach((part, i) => {
    if (i % 2) found.push({call: part.replace(/^<tool_call>\s*|\s*<\/tool_call>$/g, '')});
    else if (part.trim()) found.push({text: part.trim()});
  });
  return {thought: thought.trim(), pieces: found};
}

// What a call asks for, as lines of text; null if it cannot be read.
function callItems(text) {
  try {
    const {name, arguments: args} = JSON.parse(text);
    const list = args.sub_agents ?? args.queries ?? args.urls ?? [args];
    const items = list.map((item) => item.prompt ?? item.query
      ?? [item.url, item.info_to_extract].filter(Boolean).join(' — '));
    return typeof name === 'string' && items.every((i) => typeof i === 'string')
      ? {name, items} : null;
  } catch {
    return null;
  }
}

function callView(text) {
  const call = callItems(text);
  const head = call
    ? [h('b', {class: 'tool'}, shown(call.name.replaceAll('_', ' '))),
      call.items.length > 1 ? h('span', {class: 'badge'}, `×${call.items.length}`) : null,
      h('span', {class: 'hint'}, shown(clip(call.items.join(' · ').replace(/\s+/g, ' '), 160)))]
    : [h('b', {class: 'tool bad'}, 'unreadable call'),
      h('span', {class: 'hint'}, shown(clip(text.replace(/\s+/g, ' '), 160)))];
  return fold(head, () => call
    ? h('ol', {class: 'items'}, call.items.map((item) => h('li', null, block(item))))
    : block(text, 'mono'), {class: 'folded'});
}

function turnView(turn, place, children = null, isAnswer = false) {
  const {thought, pieces: parts} = pieces(turn.text);
  const trained = turn.trained == null ? null : h('span', {
    class: turn.trained ? 'dot on' : 'dot off',
    title: turn.trained ? 'trained' : 'not trained',
  }, turn.trained ? 'trained' : 'not trained');
  const node = h('div', {class: 'turn'},
    h('div', {class: 'turn-head'}, h('b', null, `Turn ${place + 1}`),
      h('span', {class: 'muted'}, plural(turn.tokens, 'token')),
      turn.finish_reason === 'stop' ? null
        : h('span', {class: 'chip bad'}, `ended by ${plain(turn.finish_reason)}`),
      trained));
  if (thought) node.append(fold(
    [h('span', {class: 'thought'}, 'Thought'), h('span', {class: 'hint'}, shown(clip(thought.replace(/\s+/g, ' '), 160)))],
    () => block(thought), {class: 'folded'}));
  for (const part of parts) {
    if (part.call != null) node.append(callView(part.call));
    else if (isAnswer) node.append(fold([h('span', {class: 'thought'}, 'Answer'),
      h('span', {class: 'hint'}, shown(clip(part.text.replace(/\s+/g, ' '), 160)))], () => block(part.text, 'mono'), {class: 'folded'}));
    else node.append(block(part.text));
  }
  if (!turn.text.trim()) node.append(h('p', {class: 'muted'}, '(wrote nothing)'));
  if (turn.error) node.append(h('p', {class: 'note'}, shown(turn.error)));
  if (children) node.append(children);
  if (turn.tool_text) node.append(fold(
    [h('span', {class: 'thought'}, children ? 'Reports, as the lead reads them' : 'Result'),
      h('span', {class: 'hint'}, shown(clip(turn.tool_text.replace(/\s+/g, ' '), 160)))],
    () => block(turn.tool_text, 'mono'), {class: 'folded result'}));
  return node;
}

function agentFacts(agent, total) {
  return [
    h('span', {class: 'muted'}, `${plural(agent.turns.length, 'turn')} · ${plural(agent.tokens, 'token')}`),
    agent.weight == null ? null : h('span', {
      class: 'weight',
      title: `its tokens weigh ${number(agent.weight, 4)} of the batch in all`,
    }, h('i', {style: `width:${Math.round(40 * agent.weight / (total || 1))}px`}),
    agent.weight ? `weight ${(100 * agent.weight / (total || 1)).toFixed(0)} %` : 'not trained'),
    agent.failures.map((name) => h('span', {class: 'chip bad'}, shown(failureName(name)))),
  ];
}

const failureName = (name) =>
  name.replace(/^max_/, '').replace(/_failed$/, '').replaceAll('_', ' ');

function subagentView(agent, total) {
  const report = agent.answer || (agent.failures.length ? 'No report.' : 'The report is empty.');
  return h('article', {class: agent.failures.length ? 'subagent failed' : 'subagent'},
    h('header', null, h('span', {class: 'badge'}, agent.agent), block(agent.subtask, 'subtask')),
    h('div', {class: 'facts'}, agentFacts(agent, total)),
    block(report, agent.answer ? 'report' : 'report muted'),
    fold(h('span', {class: 'thought'}, plural(agent.turns.length, 'turn')), () =>
      h('div', {class: 'turns'}, agent.turns.map((turn, i) => turnView(turn, i))),
    {class: 'folded'}));
}

// Advantages of the group side by side; each opens its rollout.
function groupStrip(index, place) {
  const me = index.rollouts[place];
  const group = index.rollouts.map((r, i) => [r, i]).filter(([r]) =>
    r.task === me.task && r.step === me.step && r.source === me.source);
  if (group.length < 2) return null;
  const most = Math.max(1e-9, ...group.map(([r]) => r.reward ?? 0));
  return h('div', {class: 'group'}, h('span', {class: 'muted'}, 'Its group'),
    group.map(([r, i]) => h('a', {
      href: `#rollouts/${i}`, class: i === place ? 'here' : '',
      title: `sample ${r.sample}: reward ${number(r.reward)}` + (r.advantage == null ? '' : `, advantage ${signed(r.advantage)}`),
    }, h('i', {style: `height:${Math.round(2 + 20 * Math.max(0, (r.reward ?? 0) / most))}px`}),
    h('span', null, number(r.reward, 2)))));
}

function stat(name, value, className = '') {
  return h('div', {class: `stat ${className}`}, h('span', null, name), h('b', null, value));
}

function rolloutView(index, place) {
  const rollout = index.rollouts[place];
  const task = index.tasks[rollout.task];
  const body = load(`r${place}`);
  const [lead, ...subagents] = body.agents;
  const total = body.agents.reduce((sum, agent) => sum + (agent.weight || 0), 0);
  const summands = ['answer', 'format', 'tool', 'length']
    .filter((name) => name in body.parts)
    .map((name) => `${name} ${number(body.parts[name], 2)}`).join('  ·  ');
  const head = h('header', {class: 'rollout-head'},
    h('p', {class: 'muted'}, shown(`${index.sources[rollout.source]}${rollout.step == null ? '' : ` · step ${rollout.step}`} · sample ${rollout.sample} · ${task.id}`)),
    block(task.question, 'question'),
    h('div', {class: 'stats'},
      stat('reward', number(rollout.reward), 'big'),
      rollout.advantage == null ? null
        : stat('advantage', signed(rollout.advantage), rollout.advantage > 0 ? 'up' : rollout.advantage < 0 ? 'down' : ''),
      stat(task.kind === 'wide' ? 'item F1' : 'exact match', number(rollout.score)),
      stat('subagents', count(subagents.length)),
      stat('tokens', count(rollout.tokens)),
      rollout.failures.length ? stat('failures', rollout.failures.map(failureName).map(plain).join(', '), 'down') : null),
    summands ? h('p', {class: 'muted'}, `reward = ${summands}`) : null,
    groupStrip(index, place));
  const turns = lead.turns.map((turn, i) => {
    const mine = subagents.filter((agent) => agent.parent_turn === i);
    const grid = mine.length ? h('div', {class: 'fan-out', tabindex: 0, 'aria-label': plural(mine.length, 'subagent')},
      mine.map((agent) => subagentView(agent, total))) : null;
    return turnView(turn, i, grid, i === lead.turns.length - 1 && lead.answer);
  });
  return h('article', {class: 'rollout'}, head,
    answerSection(task, rollout, body),
    h('section', {class: 'card'},
      h('div', {class: 'agent-head'}, h('h3', null, lead.role === 'single' ? 'Agent' : 'Lead agent'), agentFacts(lead, total)),
      h('div', {class: 'turns'}, turns)),
    h('section', {class: 'card'}, fold(h('h3', null, 'All parts of the score'), () =>
      h('dl', {class: 'parts'}, Object.entries(body.parts).map(([name, value]) =>
        h('div', null, h('dt', null, shown(named(name))), h('dd', null, number(value))))))));
}
