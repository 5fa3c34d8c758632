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

  // What is lit in a drawing that does not fit is brought into sight.
  const light = (place) => {
    const lit = place.querySelector('.node.lit');
    const frame = lit ? lit.closest('.scroll-x') : null;
    if (!frame || frame.scrollWidth <= frame.clientWidth) return;
    const at = lit.getBoundingClientRect();
    frame.scrollLeft += at.left - frame.getBoundingClientRect().left - (frame.clientWidth - at.width) / 2;
  };
  document.querySelectorAll('[data-panel="cycle"]').forEach(light);

  // What a panel shows is made and escaped by the server. The focus stays on what it is on.
  const name = (e) => e.tagName + ' ' + (e.id || e.getAttribute('aria-label') || e.textContent);
  const panel = (m) => {
    for (const card of cardOf(m.card)) {
      const place = card.querySelector('[data-panel="' + m.id + '"]');
      if (!place) continue;
      const at = document.activeElement;
      const focused = at !== place && place.contains(at) ? name(at) : null;
      const before = m.id === 'lesson' ? stepOf(place) : '';
      place.innerHTML = m.html;
      if (m.id === 'lesson') outdate(place, before);
      light(place);
      if (focused) Array.from(place.querySelectorAll('a, button, summary, [tabindex]')).find((e) => name(e) === focused)?.focus();
    }
  };
  // What somebody has opened in a row stays open, with its bytes.
  const keep = (old, next) => {
    const at = document.activeElement;
    const focused = old.contains(at) ? at : null;
    if (old.querySelector(':scope > details[open]')) next.querySelector('details').open = true;
    for (const was of old.querySelectorAll('details.event')) {
      Array.from(next.querySelectorAll('details.event')).find((e) => e.dataset.event === was.dataset.event)?.replaceWith(was);
    }
    old.replaceWith(next);
    if (focused) (next.contains(focused) ? focused : next.querySelector('summary')).focus({preventScroll: true});
  };
  const row = (m) => {
    if (!log || !log.closest('[data-card]') || log.closest('[data-card]').dataset.card !== m.card) return;
    const holder = document.createElement('ol');
    holder.innerHTML = m.html;
    const next = holder.firstElementChild;
    const old = document.getElementById(m.id);
    if (old) {
      keep(old, next);
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
    events.onerror = () => { live.textContent = events.readyState === EventSource.CLOSED ? 'not live any more; load this page again' : 'no connection; trying again'; delete document.documentElement.dataset.live; };
  }

  // What a page says that tells how something went.
  const saidBy = (text) => new DOMParser().parseFromString(text, 'text/html').getElementById('said')?.textContent || 'That did not work.';

  // A form does what it does without leaving the page.
  document.addEventListener('submit', async (e) => {
    const form = e.target;
    if ('plain' in form.dataset || form.method !== 'post') return;
    e.preventDefault();
    let text;
    try {
      const answer = await fetch(form.action, {method: 'POST', body: new URLSearchParams(new FormData(form))});
      text = saidBy(await answer.text());
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
    const link = d.querySelector(':scope > a');
    const place = d.querySelector(':scope > div') || document.createElement('div');
    d.append(place);
    try {
      const answer = await fetch(d.dataset.event + '?part');
      const text = await answer.text();
      if (answer.ok) {
        place.innerHTML = text;
        link?.remove();
        return;
      }
      place.textContent = saidBy(text);
    } catch (err) {
      place.textContent = 'The program does not answer.';
    }
    delete d.dataset.loaded; // to be asked for again
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
    const call = () => { type.textContent = root.dataset.type === 'large' ? 'Normal type' : 'Large type'; };
    type.hidden = false;
    call();
    type.addEventListener('click', () => {
      if (root.dataset.type === 'large') delete root.dataset.type; else root.dataset.type = 'large';
      call();
    });
  }
})();
