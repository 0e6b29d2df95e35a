"""Look at points, pixels, features and mistakes: what is computed and drawn, and a thin server of it in the browser.

What is shown is computed by classes that know nothing of any browser:

    opening ──▶ moments (a frame, and what was computed of it) ──▶ colouring ──▶ pictures, snapshot
                   ▲
    networks ──────┘ (answers of runs)                    view: what is on screen, as an address
"""
