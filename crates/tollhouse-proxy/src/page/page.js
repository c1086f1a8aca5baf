'use strict';
// Draws what the server tells, once a second; or what stands in the file itself. All text
// goes in as text: names come from whoever calls.

const SECONDS = 300;
const KEPT = 360;
const MINUTE = 60;
const CALLS = 24;
const ROWS = 40;
const NEWS = 30;
const TOKEN = 'tollhouse-token';
const SVG = 'http://www.w3.org/2000/svg';

const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const count = (n) => whole.format(n);

// ----- words -----

const span = (seconds) => {
  if (seconds < 0.0005) return '0 s';
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  const minutes = Math.round(s / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};
const ago = (seconds) => {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 100) return `${s} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
};
const about = (seconds) => (seconds < 1 ? 'under 1 s' : `about ${span(seconds)}`);
const percent = (part, all) => `${Math.round((100 * part) / Math.max(all, 1))} %`;
const some = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const caller = (name) => name || 'unnamed';

// ----- what is known -----

let now = null;
let calls = [];
let news = [];
const points = new Map();

const take = (told) => {
  if (told.whole) {
    calls = [];
    news = [];
    points.clear();
  }
  now = told;
  calls = [...calls, ...told.recent].slice(-CALLS);
  news = [...news, ...told.happened].slice(-NEWS);
  const names = new Set(told.pools.map((pool) => pool.name));
  for (const name of points.keys()) if (!names.has(name)) points.delete(name);
  for (const pool of told.pools) {
    const [next] = pool.points;
    const before = (points.get(pool.name) || []).filter((point) => !next || point[0] < next[0]);
    const kept = [...before, ...pool.points];
    points.set(pool.name, kept.slice(-KEPT));
  }
};

// ----- small hands -----

const show = (element, is) => { element.hidden = !is; };
const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };

const make = (name, text = '', look = '') => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (look) element.className = look;
  return element;
};

// As many children as there are things; those that are there are used again, so that what
// is selected or focused stays so.
const each = (parent, things, create, fill) => {
  while (parent.children.length > things.length) parent.lastElementChild.remove();
  while (parent.children.length < things.length) parent.append(create());
  things.forEach((thing, n) => fill(parent.children[n], thing));
};

const row = (looks) => () => {
  const tr = make('tr');
  looks.forEach((look, n) => {
    const cell = tr.appendChild(make(n === 0 && look.startsWith('head') ? 'th' : 'td', '', look));
    if (cell.tagName === 'TH') cell.scope = 'row';
  });
  return tr;
};
const fill = (tr, texts) => texts.forEach((text, n) => say(tr.children[n], text));

const pairs = (list, things) => each(list, things, () => {
  const pair = make('div');
  pair.append(make('dt'), make('dd'));
  return pair;
}, (pair, [name, value, rest]) => {
  say(pair.firstChild, name);
  const [dd] = [pair.lastChild];
  if (dd.textContent === value + (rest || '')) return;
  dd.textContent = value;
  if (rest) dd.append(make('small', rest));
});

// ----- a pool -----

const perWords = (meter) => `${meter.unit} a ${meter.per}`;
// The graph is about tokens, or about requests where those alone are limited by the minute.
const mainMeter = (pool) => {
  const byMinute = (unit) => pool.meters.find((meter) => meter.unit === unit && meter.per === 'minute');
  return byMinute('tokens') || byMinute('requests');
};
const countsOf = (pool) => {
  const meter = mainMeter(pool);
  return meter && meter.unit === 'requests' ? ['requests', 3] : ['tokens', 4];
};

// What was launched in the minute before each second.
const minutes = (list, index) => {
  let first = 0;
  let sum = 0;
  return list.map((point) => {
    sum += point[index];
    while (list[first][0] <= point[0] - MINUTE) sum -= list[first++][index];
    return [point[0], sum];
  });
};

const slotsFull = (pool) => pool.max_concurrency !== null && pool.in_flight >= pool.max_concurrency;

const whyWaiting = (pool) => {
  const n = some(pool.waiting, 'waits', 'wait');
  if (slotsFull(pool)) return `${n} for a slot: all ${count(pool.max_concurrency)} are taken`;
  if (now.slots !== null && now.in_flight >= now.slots) return `${n} for a slot of the account`;
  if (pool.next_launch_in_seconds > 0) return `${n}; the next launch is in ${span(pool.next_launch_in_seconds)}`;
  const share = (meter) => meter.left / Math.max(meter.allowed, 1);
  const tightest = [...pool.meters].sort((one, other) => share(one) - share(other))[0];
  if (!tightest) return n;
  return `${n} for ${tightest.unit} to come back${tightest.per === 'day' ? ', by the day' : ''}`;
};

const standing = (pool) => {
  if (pool.held_for_seconds !== null) {
    const waits = pool.waiting ? `; ${some(pool.waiting, 'waits', 'wait')}` : '';
    return ['held', `The provider closed it for ${span(pool.held_for_seconds)} more${waits}`];
  }
  if (pool.waiting > 0) return ['waits', whyWaiting(pool)];
  if (pool.at_rest) return ['rests', 'At rest'];
  return ['open', 'Open'];
};

const path = (list, y) => list.map(([x, value], n) => `${n ? 'L' : 'M'}${x.toFixed(1)} ${y(value).toFixed(1)}`).join('');

const GRAPH = 76; // of 100 in height; launches have what is below
const LAUNCHES = 16;

const draw = (card, pool, kept) => {
  const last = Math.floor(now.at);
  const x = (second) => SECONDS - (last - second);
  const seen = kept.filter((point) => x(point[0]) >= 0);
  const list = minutes(kept, countsOf(pool)[1])
    .map(([second, sum]) => [x(second), sum])
    .filter(([left]) => left >= 0);
  const top = Math.max(...seen.map((point) => point[1]), ...list.map((one) => one[1]), 1) * 1.2;
  const y = (value) => GRAPH - (value / top) * (GRAPH - 2);
  const line = path(list, y);
  const find = (name) => card.querySelector(name);
  find('.top').setAttribute('d', line);
  find('.area').setAttribute('d', list.length ? `${line}L${list.at(-1)[0]} ${GRAPH}L${list[0][0]} ${GRAPH}Z` : '');
  const limit = seen.length ? seen.at(-1)[1] : 0;
  const rule = find('.limit');
  rule.setAttribute('y1', y(limit));
  rule.setAttribute('y2', y(limit));
  rule.setAttribute('visibility', limit ? 'visible' : 'hidden');
  const told = find('.allowed');
  say(told, limit ? count(limit) : '');
  // Above its line, where there is air.
  told.style.top = `calc(${(y(limit) / 100) * 8.5}rem - 1.25em)`;

  const rect = () => document.createElementNS(SVG, 'rect');
  const place = (element, left, above, width, height) => {
    element.setAttribute('x', left);
    element.setAttribute('y', above);
    element.setAttribute('width', width);
    element.setAttribute('height', height);
  };
  const holds = [];
  for (const point of seen) {
    if (!point[6]) continue;
    const before = holds.at(-1);
    if (before && before[1] === x(point[0]) - 1) before[1] += 1;
    else holds.push([x(point[0]), x(point[0])]);
  }
  each(find('.holds'), holds, rect, (it, [from, to]) => place(it, from - 1, 0, to - from + 1, GRAPH));
  const launched = seen.filter((point) => point[3] > 0);
  const most = Math.max(4, ...launched.map((point) => point[3]));
  each(find('.launches'), launched, rect, (it, point) => {
    const height = Math.max(3, (point[3] / most) * LAUNCHES);
    place(it, x(point[0]) - 1, 100 - height, 1, height);
  });
};

// Where the eye is in a graph, by mouse or by arrow keys: so many seconds back.
const lookAt = (card, back) => {
  card.dataset.back = back;
  const graph = card.querySelector('.graph');
  const cursor = card.querySelector('.cursor');
  const is = back !== '';
  cursor.setAttribute('visibility', is ? 'visible' : 'hidden');
  if (is) {
    cursor.setAttribute('x1', SECONDS - back);
    cursor.setAttribute('x2', SECONDS - back);
  }
  const pool = now.pools.find((one) => one.name === card.dataset.pool);
  if (!pool) return;
  const second = Math.floor(now.at) - (is ? back : 0);
  const list = points.get(pool.name) || [];
  const found = list.findLastIndex((point) => point[0] <= second);
  const known = found >= 0 && second - list[found][0] < 3 ? list[found] : null;
  const [unit, index] = countsOf(pool);
  const when = !is || back < 1 ? 'Now' : `${span(Number(back))} ago`;
  const text = known
    ? [
        `${when}: ${count(minutes(list, index)[found][1])} ${unit} in a minute`,
        ...(known[1] ? [`${count(known[2])} left`] : []),
        `${count(known[5])} waiting`,
        ...(known[6] ? ['held'] : []),
      ].join(', ')
    : `${when}: nothing known`;
  say(card.querySelector('.readout'), is ? text : '');
  graph.setAttribute('aria-valuenow', is ? -back : 0);
  graph.setAttribute('aria-valuetext', text);
};

const newPool = () => {
  const card = at('pool').content.firstElementChild.cloneNode(true);
  const graph = card.querySelector('.graph');
  const back = () => Number(card.dataset.back || 0);
  const steps = { ArrowLeft: 1, ArrowDown: 1, ArrowRight: -1, ArrowUp: -1, PageUp: -30, PageDown: 30, Home: SECONDS, End: -SECONDS };
  graph.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') return lookAt(card, '');
    const step = steps[event.key];
    if (!step) return undefined;
    event.preventDefault();
    return lookAt(card, Math.min(SECONDS - 1, Math.max(0, back() + step)));
  });
  graph.addEventListener('pointermove', (event) => {
    const box = graph.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    lookAt(card, Math.min(SECONDS - 1, Math.max(0, Math.round((1 - part) * SECONDS))));
  });
  for (const end of ['pointerleave', 'blur']) graph.addEventListener(end, () => lookAt(card, ''));
  return card;
};

const meterLine = () => {
  const item = make('li');
  const words = item.appendChild(make('span'));
  words.append(make('b', '', 'name'), make('i', '', 'value'));
  words.firstChild.style.fontWeight = 'inherit';
  words.lastChild.style.fontStyle = 'inherit';
  item.appendChild(make('meter')).min = 0;
  return item;
};

const fillPool = (card, pool, n) => {
  const kept = points.get(pool.name) || [];
  const [look, text] = standing(pool);
  card.className = `card pool ${look}`;
  card.dataset.pool = pool.name;
  const title = card.querySelector('h3');
  say(title, pool.name || 'all models');
  title.id = `pool-${n}`;
  card.setAttribute('aria-labelledby', title.id);
  say(card.querySelector('.said'), text);
  const minute = kept.filter((point) => point[0] > now.at - MINUTE);
  const sum = (index) => minute.reduce((all, point) => all + point[index], 0);
  const meter = mainMeter(pool);
  const [unit, index] = countsOf(pool);
  const words = unit === 'tokens' ? 'tokens/min reserved' : 'requests/min';
  const used = sum(index);
  const [big, rest] = card.querySelector('.used').children;
  say(big, meter ? percent(used, meter.limit) : count(used));
  say(rest, `${meter ? `${count(used)} of ${count(meter.limit)} ` : ''}${words}`);
  draw(card, pool, kept);
  const graph = card.querySelector('.graph');
  graph.setAttribute('aria-label', `${pool.name}: ${unit} by the minute over five minutes; arrow keys look back`);
  lookAt(card, card.dataset.back || '');

  each(card.querySelector('.meters'), pool.meters, meterLine, (item, one) => {
    const [words, gauge] = item.children;
    say(words.firstChild, perWords(one));
    const debt = one.left < 0 ? `${count(-one.left)} in debt` : `${count(Math.min(one.left, one.allowed))} of ${count(one.allowed)} left`;
    say(words.lastChild, debt);
    gauge.max = Math.max(one.allowed, 1);
    gauge.value = Math.max(0, Math.min(one.left, one.allowed));
    gauge.setAttribute('aria-label', `${perWords(one)} left`);
  });
  const slots = pool.max_concurrency === null ? '' : ` of ${count(pool.max_concurrency)}`;
  const facts = [
    ['In flight', count(pool.in_flight) + slots],
    ['Waiting', count(pool.waiting)],
    ['Launched in a minute', count(sum(3))],
  ];
  if (pool.next_launch_in_seconds > 0) facts.push(['Next launch in', span(pool.next_launch_in_seconds)]);
  if (pool.pace_percent < 100) facts.push(['Slowed to', `${pool.pace_percent} % after refusals`]);
  if (meter && used > meter.limit) facts.push(['Above 100 %', 'saved up, or given back']);
  pairs(card.querySelector('.facts'), facts);
};

// ----- the rest -----

const sums = () => {
  const list = [
    ['waiting', count(now.waiting)],
    ['in flight', count(now.in_flight), now.slots === null ? '' : ` of ${count(now.slots)}`],
    ['calls over', count(now.calls)],
  ];
  if (now.connections !== null) list.push(['connections', count(now.connections)]);
  if (now.accounts > 1) list.push(['keys', count(now.accounts)]);
  if (now.shared) list.push(['processes', now.shared.up ? count(now.shared.processes) : 'alone']);
  if (now.progress) {
    list.push(['retries', count(now.progress.retries)], ['429s', count(now.progress.rejected)]);
  }
  if (now.dry_run) {
    list.push(['would have waited', count(now.dry_run.would_have_waited)]);
    list.push(['would have been refused', count(now.dry_run.would_have_been_refused)]);
  }
  pairs(at('sums'), list);
};

const progress = () => {
  const come = now.progress;
  const alone = now.shared && !now.shared.up
    && `Not shared with other processes for ${span(now.shared.since_seconds)}: ${now.shared.why || 'no answer yet'}`;
  const alert = (come && come.outage) || alone;
  show(at('progress'), come);
  show(at('alert'), alert);
  say(at('alert'), alert || '');
  if (!come) return;
  at('bar').max = Math.max(come.total, 1);
  at('bar').value = come.done;
  const parts = [`${count(come.done)} of ${some(come.total, 'line')} done`];
  if (come.failed) parts.push(`${count(come.failed)} failed`);
  if (come.left_seconds > 0 && !now.over) parts.push(`${about(come.left_seconds)} left`);
  say(at('progress-text'), parts.join(', '));
};

const table = (id, list, looks, texts) => {
  const body = at(id).tBodies[0];
  show(at(id).parentElement, list.length);
  show(at(`no-${id}`), !list.length);
  each(body, list, row(looks), texts);
};

const waits = () => {
  const all = now.pools.flatMap((pool) => pool.callers
    .filter((one) => one.waiting > 0)
    .map((one) => ({ ...one, pool: pool.name })));
  const rank = (one) => one.wait_seconds ?? Infinity;
  all.sort((one, other) => rank(one) - rank(other) || (one.place ?? 0) - (other.place ?? 0));
  const more = now.pools.reduce((sum, pool) => sum + pool.more_callers, 0) + Math.max(0, all.length - ROWS);
  const looks = ['head', '', 'number', 'number', 'number', 'number wide', 'number wide', 'number wide'];
  table('waits', all.slice(0, ROWS), looks, (tr, one) => fill(tr, [
    caller(one.name),
    one.pool || 'all models',
    count(one.waiting),
    one.place === null ? '–' : count(one.place),
    one.wait_seconds === null ? '–' : about(one.wait_seconds),
    count(one.in_flight),
    count(one.weight),
    percent(one.share_permille, 1000),
  ]));
  show(at('more-waits'), more);
  say(at('more-waits'), `and ${some(more, 'more caller')}`);
};

// One that is silent for longer has nothing any more: what it held counts as spent.
const SILENT = 4;

const heard = (one) => {
  if (one.left) return 'has left';
  return one.silent_seconds > SILENT ? `silent for ${span(one.silent_seconds)}` : `${span(one.silent_seconds)} ago`;
};

const processes = () => {
  show(at('sharing'), now.shared && !now.over);
  if (!now.shared) return;
  const all = now.processes || [];
  // What all pools have in common is no pool: its slots count once, with theirs.
  const pools = (one) => one.pools.filter((lease) => lease.pool !== null);
  const units = all.flatMap((one) => pools(one).flatMap((lease) => Object.keys(lease.held)));
  const unit = units.includes('tokens') || !units.length ? 'tokens' : units[0];
  say(at('held-unit'), unit[0].toUpperCase() + unit.slice(1));
  const sum = (one, what) => count(pools(one).reduce((all, lease) => all + (lease[what][unit] || 0), 0));
  const plain = (one, what) => count(pools(one).reduce((all, lease) => all + lease[what], 0));
  const looks = ['head', 'number wide', 'number', 'number', 'number wide', 'number wide', 'number', 'number wide'];
  table('processes', all, looks, (tr, one) => {
    const mine = one.this ? ' (this one)' : '';
    fill(tr, [
      one.process.slice(0, 8) + mine, span(one.known_seconds), heard(one), sum(one, 'held'), sum(one, 'idle'),
      sum(one, 'wanted'), plain(one, 'slots'), plain(one, 'waiting'),
    ]);
    tr.children[2].className = one.silent_seconds > SILENT && !one.left ? 'number bad' : 'number';
  });
  show(at('more-processes'), now.more_processes);
  say(at('more-processes'), `and ${some(now.more_processes, 'more process', 'more processes')}`);
};

const recent = () => {
  const looks = ['number', 'call', 'wide', '', 'number', 'number', 'number', 'number wide'];
  const time = (seconds) => (seconds === null ? '–' : span(seconds));
  table('recent', [...calls].reverse(), looks, (tr, call) => {
    const status = call.left ? 'left' : call.status === null ? 'no answer' : String(call.status);
    fill(tr, [
      ago(now.at - call.at), null, call.pool || '–', status, time(call.wait_seconds), time(call.total_seconds),
      call.tokens === null ? '–' : count(call.tokens), count(call.attempts),
    ].map((text, n) => (text === null ? tr.children[n].textContent : text)));
    tr.children[3].className = call.left || call.status === null || call.status >= 400 ? 'bad' : '';
    const cell = tr.children[1];
    if (!cell.firstChild) cell.append(make('span'), make('small'));
    const named = now.kind === 'batch' ? [call.what, call.caller] : [caller(call.caller), call.what];
    say(cell.firstChild, named[0]);
    say(cell.lastChild, named[1]);
  });
};

const newsWords = (one) => {
  switch (one.what) {
    case 'held': return `${one.pool}: the provider closed it for ${span(one.seconds)}`;
    case 'opened': return `${one.pool}: open again`;
    case 'slowed': return `${one.pool}: slowed to ${one.percent} % of its limits, after refusals that do not say enough`;
    case 'full_pace': return `${one.pool}: at its full pace again`;
    default: return one.text;
  }
};

const happened = () => {
  show(at('no-happened'), !news.length);
  each(at('happened'), [...news].reverse(), () => {
    const item = make('li');
    item.append(make('time'), make('span'));
    return item;
  }, (item, one) => {
    say(item.firstChild, `${ago(now.at - one.at)} ago`);
    say(item.lastChild, newsWords(one));
  });
};

const render = () => {
  show(at('all'), true);
  show(at('ask'), false);
  say(at('kind'), now.kind === 'batch' ? 'batch' : 'proxy');
  progress();
  sums();
  show(at('no-pools'), !now.pools.length);
  let n = 0;
  each(at('pools'), now.pools, newPool, (card, pool) => fillPool(card, pool, (n += 1)));
  show(at('more-pools'), now.more_pools);
  say(at('more-pools'), `and ${some(now.more_pools, 'quieter pool')}`);
  waits();
  processes();
  recent();
  happened();
  document.title = now.waiting && !now.over ? `${count(now.waiting)} waiting · Tollhouse` : 'Tollhouse';
  say(at('foot'), `Tollhouse ${now.version}, running for ${span(Math.floor(now.at))}`);
};

// ----- where it comes from -----

let paused = false;
let turn = 0;
let reading = null;

const state = (text, look = '') => {
  say(at('state'), text);
  at('state').className = look;
};

const kept = {
  get: () => { try { return sessionStorage.getItem(TOKEN); } catch { return null; } },
  set: (token) => { try { sessionStorage.setItem(TOKEN, token); } catch { /* this tab forgets it */ } },
  forget: () => { try { sessionStorage.removeItem(TOKEN); } catch { /* it never knew it */ } },
};
let token = kept.get();

const ask = (wrong) => {
  token = null;
  kept.forget();
  state('A token is needed');
  show(at('all'), false);
  show(at('pause'), false);
  show(at('ask'), true);
  if (wrong) say(at('why'), 'That is no token of this proxy. Try another one.');
  at('token').value = '';
  at('token').focus();
};

const hear = (told) => {
  take(told);
  show(at('pause'), !told.over);
  if (told.over) state('Over: these are its last numbers');
  else if (!paused) state('Live', 'live');
  if (!paused || told.over) render();
};

const read = async (body) => {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + value).split('\n\n');
    text = events.pop();
    for (const event of events) if (event.startsWith('data: ')) hear(JSON.parse(event.slice(6)));
  }
};

const watch = async () => {
  const mine = (turn += 1);
  for (let pause = 1; mine === turn; pause = Math.min(pause * 2, 15)) {
    let why = 'The connection is lost';
    reading = new AbortController();
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const answer = await fetch('events', { headers, cache: 'no-store', signal: reading.signal });
      if (answer.status === 401) return ask(token);
      if (answer.status === 503) why = 'As many watch as may';
      if (answer.ok) {
        pause = 1;
        await read(answer.body);
      }
      if (now && now.over) return undefined;
    } catch { /* it is tried again */ }
    if (mine !== turn) return undefined;
    state(`${why}; trying again in ${pause} s`, 'lost');
    await new Promise((resume) => { setTimeout(resume, pause * 1000); });
  }
  return undefined;
};

const leave = () => {
  turn += 1;
  if (reading) reading.abort();
};

const begin = () => {
  const inside = at('told').textContent.trim();
  if (inside) {
    take(JSON.parse(inside));
    render();
    const when = new Date(now.written * 1000);
    const words = when.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
    state(`Report, written ${words}`);
    say(at('foot'), `Tollhouse ${now.version}, ran for ${span(Math.floor(now.at))}`);
    return;
  }
  at('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    token = at('token').value.trim();
    kept.set(token);
    state('Connecting');
    leave();
    watch();
  });
  at('pause').addEventListener('click', () => {
    paused = !paused;
    at('pause').setAttribute('aria-pressed', String(paused));
    if (paused) return state('Paused');
    state('Live', 'live');
    return render();
  });
  // Who does not look costs nothing.
  document.addEventListener('visibilitychange', () => {
    if (now && now.over) return;
    if (document.hidden) leave();
    else if (at('ask').hidden) watch();
  });
  watch();
};

begin();
