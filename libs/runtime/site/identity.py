"""Who runs the site."""

from libs.runtime.site.kinds import Table


class Identity(Table, frozen=True, kw_only=True):
    """Who runs this site: its ALICE name, and a contact that goes into every request to the facility."""

    name: str
    contact: str
