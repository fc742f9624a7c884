// The example pictures are buttons.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-example]');
  if (button) trigger('example', { number: Number(button.dataset.example) });
});
