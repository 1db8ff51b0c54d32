"use strict";
(() => {
  const rows = [...document.querySelectorAll(".strip")];
  const dialog = document.querySelector("dialog");
  const caption = dialog.querySelector("p");
  const large = dialog.querySelector(".large");
  let at = 0;
  const show = (index) => {
    at = (index + rows.length) % rows.length;
    caption.textContent = rows[at].querySelector("figcaption").textContent;
    const pictures = [...rows[at].querySelectorAll(".picture")];
    large.style.setProperty("--n", Math.min(pictures.length, 4));
    large.replaceChildren(...pictures.map((picture) => picture.cloneNode(true)));
    if (!dialog.open) dialog.showModal();
  };
  rows.forEach((row, index) => row.querySelector("button").addEventListener("click", () => show(index)));
  dialog.querySelectorAll("[data-go]").forEach((button) =>
    button.addEventListener("click", () => show(at + Number(button.dataset.go))));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => rows[at].querySelector("button").focus());
})();
