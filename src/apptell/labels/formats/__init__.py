"""Label formats, one module each (a module may hold two formats that share their reader).

A new format is a file here with a subclass of ``LabelFormat``, and one line in ``BUILT_IN``. Another
distribution registers its own by an entry point of the group ``apptell.label_formats``.
"""

from __future__ import annotations

from typing import Final

BUILT_IN: Final = {
    "nudt": "nudt:Nudt",
    "fgnet": "fgnet:Fgnet",
    "mirage": "mirage:Mirage",
    "cesnet": "cesnet:Cesnet",
    "utmobilenet": "utmobilenet:UtMobileNet",
    "pcapdroid": "pcapdroid:Pcapdroid",
    "pktap": "pktap:Pktap",
    "table": "tabular:TableLog",
    "networklog": "networklog:NetworkLog",
    "pcapdroid-csv": "pcapdroid_csv:PcapdroidCsv",
    "zeek": "tabular:ZeekLog",
    "names": "apptell.verdicts.name_labels:Names",
    "folders": "folders:Folders",
}
"""Name to module and class, in the order in which they are tried; those of other packages come before
``folders``. A module with a dot is outside this folder, because it imports packages that this one must not
import.
"""
