"""What the tests with Gradio share."""

from gradio_leftovers import collected as collected
