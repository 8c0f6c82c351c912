"""Encodes flows as input arrays of models, from what is known at the fifth payload packet."""

from apptell.encoding.bursts import bursts
from apptell.encoding.image import images
from apptell.encoding.inputs import ENCODINGS, Encoding, complete_options, encode, encoding_of
from apptell.encoding.packet_sequence import sequences
from apptell.encoding.payload import payloads
from apptell.encoding.statistics import STATISTICS, statistics, statistics_names
from apptell.encoding.structure import structure

__all__ = [
    "ENCODINGS",
    "STATISTICS",
    "Encoding",
    "bursts",
    "complete_options",
    "encode",
    "encoding_of",
    "images",
    "payloads",
    "sequences",
    "statistics",
    "statistics_names",
    "structure",
]
