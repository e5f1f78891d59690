"use strict";

// River's UI sends JSON as text/plain, which a form of any page could send too: what it sends
// gets its true type. What these pages refuse, River's UI does not say: the sentence is shown
// until it is clicked away or the next one comes. A refused change does not reach River's UI,
// which would give its whole page up for it.
{
  const send = window.fetch;

  const show = (sentence) => {
    document.getElementById("headgate-says")?.remove();
    const box = document.createElement("button");
    box.id = "headgate-says";
    box.type = "button";
    box.setAttribute("role", "alert");
    box.textContent = sentence;
    Object.assign(box.style, {
      position: "fixed", left: "1rem", right: "1rem", bottom: "1rem", zIndex: "1000", padding: "0.75rem 1rem", textAlign: "left",
      border: "1px solid #b45309", borderRadius: "0.375rem", background: "#fffbeb", color: "#78350f", font: "14px/1.4 system-ui, sans-serif",
    });
    box.addEventListener("click", () => box.remove());
    document.body.append(box);
  };

  window.fetch = async (to, options = {}) => {
    const headers = new Headers(options.headers);
    if (typeof options.body === "string" && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    const answer = await send(to, { ...options, headers });
    if (answer.ok) return answer;
    const said = await answer.clone().json().catch(() => ({}));
    if (said.message) show(said.message);
    const changes = !["GET", "HEAD"].includes((options.method ?? "GET").toUpperCase());
    return said.message && changes ? new Promise(() => {}) : answer;
  };
}
