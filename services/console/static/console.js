/* What the pages do by themselves: carry the write token, rest while nobody looks, show events as they happen. */
(() => {
  "use strict";
  const csrf = document.querySelector('meta[name="csrf"]').content;

  document.addEventListener("htmx:config:request", (event) => {
    event.detail.ctx.request.headers["X-CSRF-Token"] = csrf;
  });

  // A page that nobody looks at asks for nothing; a part that somebody is writing in is not replaced.
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    if (ctx.request.method !== "GET") return;
    const writing = document.activeElement;
    const busy = writing?.matches("textarea") && ctx.target?.contains(writing) && ctx.sourceElement !== writing;
    if (document.hidden || busy) event.preventDefault();
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

  const forms = { full, none: null };

  const follow = (list) => {
    const form = list.dataset.form in forms ? forms[list.dataset.form] : line;
    const keep = Number(list.dataset.keep || 40);
    const source = new EventSource(`/v1/events?topic=${encodeURIComponent(list.dataset.events)}`);
    source.onopen = () => tell("live", true);
    source.onerror = () => tell(source.readyState === EventSource.CLOSED ? "not live" : "reconnecting", false);
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
