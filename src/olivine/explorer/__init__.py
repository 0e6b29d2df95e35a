"""Look at points, pixels, features and mistakes: what is computed and drawn, and a thin server of it in the browser.

What is shown is computed by classes that know nothing of any browser:

    subject (frames, and what networks say of them) ──▶ coloring ──▶ stage ──▶ sharing (pictures, pages)
                   view (what is on screen, as an address) ──────────┘ └──▶ browser

`selecting` compares with what was clicked, `scene` has what stands there, and `mistakes` goes through whole datasets.
"""
