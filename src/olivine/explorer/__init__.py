"""Look at points, pixels, features and mistakes: what is computed and drawn, and a thin server of it in the browser.

What is shown is computed by classes that know nothing of any browser:

    opening ──▶ moments (frames, and what networks say of them) ──▶ coloring ──▶ stage ──▶ snapshot (pictures)
                                          view (what is on screen, as an address) ──┘ └──▶ browser
"""
