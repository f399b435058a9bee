"""Link detectors, one per file; each says whether a way out is up, and why it thinks so.

`detector` is what they have in common, `board` runs them and keeps the current verdict of each link. To add
one copy `file.py`, and name it here and in `docs/reference/links.md`.
"""

from masqmail.links.always import AlwaysDetector
from masqmail.links.command import CommandDetector
from masqmail.links.detector import DetectorKind
from masqmail.links.file import FileDetector
from masqmail.links.interface import InterfaceDetector
from masqmail.links.internet import InternetDetector
from masqmail.links.manual import ManualDetector
from masqmail.links.masqdialer import MasqdialerDetector

#: The values of a link's `detect` setting.
DETECTORS: dict[str, DetectorKind] = {
    "always": AlwaysDetector,
    "command": CommandDetector,
    "file": FileDetector,
    "interface": InterfaceDetector,
    "internet": InternetDetector,
    "manual": ManualDetector,
    "masqdialer": MasqdialerDetector,
}
