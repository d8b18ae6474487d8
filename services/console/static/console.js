/* What the pages do by themselves: carry the write token, rest while nobody looks, show events as they happen. */
(() => {
  "use strict";
  const csrf = document.querySelector('meta[name="csrf"]').content;

  document.addEventListener("htmx:config:request", (event) => {
    event.detail.ctx.request.headers["X-CSRF-Token"] = csrf;
  });

  // What a person must hear stands at the top of the page: why a write failed, that the session has ended.
  const told = document.getElementById("told");
  const say = (kind, tone, title, text, link) => {
    const notice = element("div", `notice ${tone} spaced-below`);
    notice.dataset.kind = kind;
    notice.append(element("b", "", title), ` ${text} `, ...(link ? [link] : []));
    told.replaceChildren(notice);
  };

  let over = false;
  const end = () => {
    if (over) return;
    over = true;
    tell("not live", false);
    const link = element("a", "", "Sign in again");
    link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    say("over", "warn", "Your session has ended.", "What you see is no longer kept up to date.", link);
  };

  const failed = ({ request, response, text }) => {
    if (response?.status === 401) end();
    else if (over) return;
    else if (request.method !== "GET") say("write", "bad", "That did not work.", response ? detail(text) : "The console does not answer: whether it was done is not known. Look before you try again.");
    else say("old", "warn", "This page may be out of date.", "The console cannot renew it at the moment.");
  };
  const detail = (text) => { try { return JSON.parse(text).detail; } catch { return "The console said no more."; } };

  document.addEventListener("htmx:response:error", (event) => failed(event.detail.ctx));
  document.addEventListener("htmx:error", (event) => { if (event.detail.ctx?.request) failed(event.detail.ctx); });
  document.addEventListener("htmx:after:request", (event) => {
    if (event.detail.ctx.response.status < 400) told.querySelector('[data-kind="old"], [data-kind="write"]')?.remove();
  });

  // A page that nobody looks at asks for nothing; a part that somebody is writing in is not replaced.
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    if (ctx.request.method !== "GET") return;
    const writing = document.activeElement;
    const busy = writing?.matches("textarea") && ctx.target?.contains(writing) && ctx.sourceElement !== writing;
    if (document.hidden || busy || over) event.preventDefault();
  });

  // What was typed after it was tried was not tried.
  document.addEventListener("input", (event) => {
    const force = event.target.form?.querySelector("#force");
    if (!force || force.disabled) return;
    force.disabled = true;
    document.getElementById("stale").hidden = false;
  });

  const tell = (text, on) => {
    const live = document.getElementById("live");
    if (live) { live.textContent = text; live.classList.toggle("on", on); }
  };

  let pending = 0;
  const refresh = () => {
    clearTimeout(pending);
    pending = setTimeout(() => document.body.dispatchEvent(new CustomEvent("refresh")), 350);
  };

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const clock = (time) => new Date(time).toISOString().slice(11, 19);

  const says = {
    "model.registered": (d) => `${d.model} v${d.version}, ${d.scan.verdict}`,
    "model.retired": (d) => `${d.model} v${d.version}: ${d.reason}`,
    "usecase.registered": (d) => d.title,
    "deployment.requested": (d) => `${d.model} v${d.version} for ${d.endpoint}`,
    "deployment.changed": (d) => `${d.endpoint} ${d.state}, revision ${d.revision}`,
    "approval.requested": (d) => `${d.model} v${d.version} for ${d.endpoint} waits for a person`,
    "approval.granted": (d) => `${d.endpoint}: ${d.reason}`,
    "approval.rejected": (d) => `${d.endpoint}: ${d.reason}`,
    "drift.detected": (d) => `${d.endpoint}: ${d.features.map((f) => f.name).join(", ")}`,
    "retraining.requested": (d) => `${d.model} v${d.version}, because of ${d.cause}`,
    "retraining.completed": (d) => `${d.model}: ${d.outcome.replaceAll("_", " ")}`,
    "alert.raised": (d) => d.title,
    "alert.resolved": (d) => d.reason,
  };

  const line = (told) => {
    const row = element("li", "new");
    row.append(
      element("time", "", clock(told.time)),
      element("span", "type", told.type),
      element("span", "", told.data && says[told.type] ? says[told.type](told.data) : told.subject),
      element("span", "by", told.actor),
    );
    return row;
  };

  const full = (told) => {
    const row = element("details", "event new");
    const head = element("summary");
    head.append(
      element("time", "", clock(told.time)),
      element("span", "type", told.type),
      element("span", "", told.subject || told.key || ""),
      element("span", "by", told.actor),
      element("span", "place", `${told.partition}:${told.offset}`),
    );
    row.append(head, element("pre", "", JSON.stringify(told.data ?? told.data_base64, null, 2)));
    return row;
  };

  const AGAIN_MS = 10_000;
  const forms = { full, none: null };

  // A closed stream does not say why. Where the session lives, it is opened again after a while.
  const lost = async (list) => {
    tell("not live", false);
    const answer = await fetch("/parts/nav", { headers: { "HX-Request": "true" } }).catch(() => null);
    if (answer?.status === 401) end();
    else setTimeout(follow, AGAIN_MS, list);
  };

  const follow = (list) => {
    const form = list.dataset.form in forms ? forms[list.dataset.form] : line;
    const keep = Number(list.dataset.keep || 40);
    const source = new EventSource(`/v1/events?topic=${encodeURIComponent(list.dataset.events)}`);
    source.onopen = () => tell("live", true);
    source.onerror = () => { source.readyState === EventSource.CLOSED ? lost(list) : tell("reconnecting", false); };
    source.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (form) {
        list.querySelector("[data-placeholder]")?.remove();
        list.prepend(form(told));
        while (list.childElementCount > keep) list.lastElementChild.remove();
      }
      if (list.dataset.refresh) refresh();
    };
    addEventListener("pagehide", () => source.close());
  };

  document.querySelectorAll("[data-events]").forEach(follow);
})();
