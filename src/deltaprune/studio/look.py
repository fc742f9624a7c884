"""The page's theme: the system's fonts, a dark and a light colour scheme."""

from pathlib import Path

from gradio import themes

FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
THEME = themes.Default(
    primary_hue=themes.colors.teal,
    neutral_hue=themes.colors.slate,
    radius_size=themes.sizes.radius_sm,
    spacing_size=themes.sizes.spacing_sm,
    font=FONTS,
    font_mono=MONO,
).set(  # dark enough on white to be read
    body_text_color_subdued="*neutral_500",
    block_info_text_color="*neutral_500",
    block_label_text_color="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
)
CSS = (Path(__file__).parent / "assets" / "studio.css").read_text(encoding="utf-8")
HEAD = """<style>
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; }
.gradio-container > .main { padding: 12px 16px 32px !important; }
.gradio-container :is(.contain, .row, .column) { min-width: 0; }
@media (max-width: 700px) { .gradio-container > .main { padding: 8px 8px 24px !important; } }
</style>"""
