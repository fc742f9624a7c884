"""The studio: a web page to explore pruning. `mount` adds it to an app; needs the extra `studio`.

`session.py` holds a visitor's work and knows no web framework, `view.py` says what is shown of it, `page.py` where, and
`events.py` what happens when.
"""

from deltaprune.studio.app import mount as mount
from deltaprune.studio.session import Session as Session
