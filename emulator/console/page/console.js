'use strict';
// Without this file the page works by links and forms; with it, it is live.
(() => {
  const live = document.getElementById('live');
  const cardOf = (name) => Array.from(document.querySelectorAll('[data-card]')).filter((e) => e.dataset.card === name);
  const log = document.getElementById('log');
  const mostRows = 400;

  // What was said of a step does not stay beside Solved, nor beside another step, but for what
  // has led to that.
  const said = document.getElementById('said');
  const stepOf = (place) => place.firstElementChild ? place.firstElementChild.textContent : '';
  const outdate = (place, before) => {
    const other = stepOf(place) !== before && !(said && said.dataset.by && said.dataset.by.endsWith('/next'));
    if (said && (other || place.querySelector('.notice.good'))) said.hidden = true;
  };

  // What a panel shows is made and escaped by the server.
  const panel = (m) => {
    for (const card of cardOf(m.card)) {
      const place = card.querySelector('[data-panel="' + m.id + '"]');
      if (!place) continue;
      const at = document.activeElement;
      const label = place.contains(at) ? at.getAttribute('aria-label') : null;
      const before = m.id === 'lesson' ? stepOf(place) : '';
      place.innerHTML = m.html;
      if (m.id === 'lesson') outdate(place, before);
      if (label) {
        const same = Array.from(place.querySelectorAll('button')).find((b) => b.getAttribute('aria-label') === label);
        if (same) same.focus();
      }
    }
  };
  const row = (m) => {
    if (!log || !log.closest('[data-card]') || log.closest('[data-card]').dataset.card !== m.card) return;
    const holder = document.createElement('ol');
    holder.innerHTML = m.html;
    const next = holder.firstElementChild;
    const old = document.getElementById(m.id);
    if (old) {
      if (old.querySelector('details[open]')) next.querySelector('details').open = true;
      old.replaceWith(next);
    } else {
      next.classList.add('new');
      log.prepend(next);
      while (log.children.length > mostRows) log.lastElementChild.remove();
    }
  };

  if (document.querySelector('[data-card]')) {
    // What happened since this page was made is told, too.
    const events = new EventSource('/events?after=' + live.dataset.after);
    events.addEventListener('panel', (e) => panel(JSON.parse(e.data)));
    events.addEventListener('row', (e) => row(JSON.parse(e.data)));
    events.addEventListener('lost', () => location.reload());
    events.onopen = () => { live.textContent = 'live'; document.documentElement.dataset.live = 'yes'; };
    events.onerror = () => { live.textContent = 'no connection; trying again'; delete document.documentElement.dataset.live; };
  }

  // A form does what it does without leaving the page.
  document.addEventListener('submit', async (e) => {
    const form = e.target;
    if ('plain' in form.dataset || form.method !== 'post') return;
    e.preventDefault();
    let text;
    try {
      const answer = await fetch(form.action, {method: 'POST', body: new URLSearchParams(new FormData(form))});
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      text = page.getElementById('said') ? page.getElementById('said').textContent : 'That did not work.';
      said.classList.toggle('bad', !answer.ok);
    } catch (err) {
      text = 'The program does not answer.';
      said.classList.add('bad');
    }
    said.hidden = false;
    said.textContent = text;
    said.dataset.by = form.action;
  });

  // Bytes are fetched when somebody wants to see them.
  document.addEventListener('toggle', async (e) => {
    const d = e.target;
    if (!d.dataset || !d.dataset.event || !d.open || d.dataset.loaded) return;
    d.dataset.loaded = 'yes';
    const answer = await fetch(d.dataset.event + '?part');
    const place = document.createElement('div');
    place.innerHTML = await answer.text();
    d.querySelector(':scope > a')?.replaceWith(place);
  }, true);

  // Bytes and their words light up together.
  const point = (on) => (e) => {
    const of = e.target.closest ? e.target.closest('[data-part]') : null;
    if (!of) return;
    for (const one of document.querySelectorAll('[data-part="' + of.dataset.part + '"]')) one.classList.toggle('pointed', on);
  };
  document.addEventListener('mouseover', point(true));
  document.addEventListener('mouseout', point(false));
  document.addEventListener('focusin', point(true));
  document.addEventListener('focusout', point(false));

  const type = document.getElementById('type');
  if (type) {
    const root = document.documentElement;
    const name = () => { type.textContent = root.dataset.type === 'large' ? 'Normal type' : 'Large type'; };
    type.hidden = false;
    name();
    type.addEventListener('click', () => {
      if (root.dataset.type === 'large') delete root.dataset.type; else root.dataset.type = 'large';
      name();
    });
  }
})();
