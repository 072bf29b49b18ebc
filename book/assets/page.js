/* What the theme's buttons leave out for those who use a keyboard or hear the page. */
(() => {
  'use strict';
  const BUTTONS = '.primary-toggle, .secondary-toggle, .search-button__button, .theme-switch-button';
  const openDialog = () => document.querySelector('dialog[open]');

  /* The theme takes the focus away from a button that was pressed, so the next Tab would begin at the top of the page. It is
     given back: at once, or when the panel that the button opened is closed, unless a link in it was followed. */
  addEventListener('click', event => {
    const button = event.target.closest(BUTTONS), byKeyboard = event.detail === 0;
    if (!button) return;
    setTimeout(() => {
      const dialog = openDialog();
      const giveBack = () => setTimeout(() => document.activeElement === document.body && !dialog.left && button.focus());
      if (dialog) dialog.addEventListener('close', giveBack, { once: true });
      else if (byKeyboard) button.focus();
      tell();
    });
  }, true);
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('click', event => { dialog.left = !!event.target.closest('a[href]'); }, true);
    dialog.addEventListener('close', () => { tell(); setTimeout(() => { dialog.left = false; }, 100); });
  }

  /* Whether the panel of a button is open. The contents of the book stand beside a wide page and over a narrow one. */
  function tell() {
    const sidebar = document.getElementById('pst-primary-sidebar');
    for (const [toggle, modal] of [['.primary-toggle', 'pst-primary-sidebar-modal'], ['.secondary-toggle', 'pst-secondary-sidebar-modal']]) {
      const button = document.querySelector(toggle), dialog = document.getElementById(modal);
      if (!button || !dialog) continue;
      const beside = toggle === '.primary-toggle' && sidebar && innerWidth >= 992 && !sidebar.classList.contains('pst-sidebar-hidden');
      button.setAttribute('aria-expanded', String(dialog.open || beside));
    }
  }
  addEventListener('resize', tell);
  tell();

  /* What scrolls can be reached by Tab, so that it can be scrolled by the arrows; what fits is no stop on the way. Written
     into the page is that all can be reached. */
  const fitting = new ResizeObserver(entries => {
    const boxes = entries.map(({ target }) => target);
    const scroll = boxes.map(box => box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1);
    boxes.forEach((box, i) => {              // after all is measured: to write between two measures is to lay out again
      if (scroll[i] || box === document.activeElement) box.tabIndex = 0; else box.removeAttribute('tabindex');
    });
  });
  document.querySelectorAll('pre[tabindex], table[tabindex], div.math[tabindex]').forEach(box => fitting.observe(box));
})();
