// Asks before something is changed, in a dialog of the page, and sends it as JSON.
import { $, ask, say } from "./ui.js";

export const send = (path, body) => ask(path, null, { method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" }, body: JSON.stringify(body) });

// Shows a question; `act` runs when the user agrees, and the dialog stays open with the reason when it fails.
export function confirmed({ title, words, yes, act }) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-words").textContent = words;
  $("ask-yes").textContent = yes;
  $("ask-yes").disabled = false;
  say(null, "ask-fault");
  $("ask-no").onclick = () => dialog.close();
  $("ask-yes").onclick = async () => {
    $("ask-yes").disabled = true;
    try {
      await act();
      dialog.close();
    } catch (fault) {
      say(fault, "ask-fault");
      $("ask-yes").disabled = false;
    }
  };
  dialog.showModal();
  $("ask-no").focus();
}
