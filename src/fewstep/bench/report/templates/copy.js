"use strict";
// Copies a table as Markdown or LaTeX. Where the clipboard is closed to a page opened from a file, the text is shown,
// selected, so that one key copies it.
(() => {
  const dialog = document.getElementById("copied");
  const area = dialog.querySelector("textarea");
  const offer = (text) => {
    area.value = text;
    dialog.showModal();
    area.focus();
    area.select();
  };
  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    const text = window.fewstepReport.copies[button.dataset.copy];
    try {
      await navigator.clipboard.writeText(text);
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    } catch {
      offer(text);
    }
  }));
})();
