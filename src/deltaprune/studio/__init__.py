"""The studio: a page in the browser on which pruning is seen and tried. `mount` puts it on an app; extra `studio`.

`session.py` holds a visitor's work and knows no web framework, `view.py` says what is shown of it, `page.py` where, and
`events.py` what happens when.
"""

from deltaprune.studio.app import mount as mount
from deltaprune.studio.session import Session as Session
