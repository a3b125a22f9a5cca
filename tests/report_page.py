"""What is in the HTML of a report."""

from __future__ import annotations

import json
import re
from typing import Any


def charts_of(html: str) -> list[dict[str, Any]]:
    """What is drawn when the page's script runs."""
    [text] = re.findall('<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    charts: list[dict[str, Any]] = json.loads(text)
    return charts
