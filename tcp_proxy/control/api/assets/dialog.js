// Dialogs: what is to be confirmed, what is to be read; and a line that says what came of an order.

import {h} from "./dom.js";

// Shows a dialog; the value of the button that ended it, "" for Escape. buttons: [[value, label, class]].
function show(title, content, buttons) {
  return new Promise((done) => {
    const heading = h("h2", {id: "dialog-title"}, title);
    // The first one ends it unsaid; Enter in a field is the next one.
    const made = buttons.map(([value, label, kind], n) => {
      return h("button", {type: n ? "submit" : "button", value, class: kind, onclick: n ? null : () => dialog.close("")}, label);
    });
    const form = h("form", {method: "dialog"}, heading, h("div", {class: "content"}, content), h("p", {class: "buttons"}, made));
    const dialog = h("dialog", {"aria-labelledby": "dialog-title"}, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue);
    });
    // Its policy lets a form go nowhere, this one neither: the buttons close by themselves.
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close(event.submitter?.value ?? made[1]?.value ?? "");
    });
    document.body.append(dialog);
    dialog.showModal();
    (form.querySelector("input, select") ?? made[0]).focus();
  });
}

// Whether it is confirmed.
export async function confirmed(title, content, label = "Confirm") {
  return (await show(title, content, [["", "Cancel"], ["yes", label, "danger"]])) === "yes";
}

// Which of some orders is meant, "" for none. orders: [[value, label]].
export function chosen(title, content, orders) {
  return show(title, content, [["", "Close"], ...orders]);
}

export function told(title, content) {
  return show(title, content, [["", "Close"]]);
}

// A whole number, or null.
export async function number(title, content, {label, value, min, max}) {
  const input = h("input", {type: "number", name: "number", value, min, max, step: 1, required: true});
  const field = h("p", {}, h("label", {}, label, " ", input));
  const answer = await show(title, [content, field].flat(), [["", "Cancel"], ["yes", "Confirm", "danger"]]);
  return answer === "yes" && input.checkValidity() ? Number(input.value) : null;
}

let clearing = 0;

export function notice(text, isBad = false) {
  const line = document.getElementById("notice");
  line.textContent = text;
  line.hidden = false;
  line.className = isBad ? "bad" : "";
  clearTimeout(clearing);
  if (!isBad) clearing = setTimeout(() => (line.hidden = true), 8000);
}

// Runs an order and says what came of it; whether it went well.
export async function run(text, order) {
  try {
    await order();
    notice(text);
    return true;
  } catch (error) {
    notice(`${error.message}`, true);
    return false;
  }
}
