"use strict";

// A page that waits for a card goes on when the session's state is another one.
const waiting = document.getElementById("waiting");
if (waiting) {
  const ask = async () => {
    try {
      const answer = await fetch(waiting.dataset.state);
      if (answer.ok && (await answer.json())[waiting.dataset.of] !== waiting.dataset.while) {
        location.assign(waiting.dataset.go);
        return;
      }
    } catch {
      waiting.textContent = "The portal does not answer. Trying again …";
    }
    setTimeout(ask, 1000);
  };
  setTimeout(ask, 1000);
}

// The page of a request follows what happens to it.
const live = document.getElementById("live");
if (live) {
  const source = new EventSource(live.dataset.events);
  source.addEventListener("progress", (e) => {
    const p = JSON.parse(e.data);
    document.getElementById("word").textContent = p.word;
    if (p.percent >= 0) {
      document.getElementById("bar").value = p.percent;
    }
    document.getElementById("said").textContent = p.text;
    if (p.end) {
      source.close();
      location.reload();
    }
  });
}
