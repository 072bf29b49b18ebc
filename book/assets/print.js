/* Paper is white, and nothing unfolds on it: while a page is printed it is light and open. A classic script. */
(function () {
  "use strict";
  const root = document.documentElement;
  let theme = null, opened = [];
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    opened = [...document.querySelectorAll("article details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    if (theme !== null) root.dataset.theme = theme;
    for (const fold of opened) fold.open = false;
    opened = [];
  });
})();
